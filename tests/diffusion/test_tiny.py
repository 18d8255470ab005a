from zreward_core.diffusion.tiny import CLOSE, OPEN, build_tokenizer, chat

TEXTS = ["a red circle at the top left", "Two blue stars, on the right"]


def test_a_prompt_is_one_chat_turn():
    tokenizer = build_tokenizer(TEXTS)
    ids = tokenizer(chat(tokenizer, TEXTS[1]))["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [
        OPEN, "user", "two", "blue", "stars", ",", "on", "the", "right", CLOSE, OPEN, "assistant",
    ]  # fmt: skip
    assert tokenizer.model_max_length == 32


def test_unknown_words_get_the_unknown_token():
    tokenizer = build_tokenizer(TEXTS)
    ids = tokenizer("a mauve circle")["input_ids"]
    assert ids[1] == tokenizer.unk_token_id
    assert len(ids) == 3


def test_a_tokenizer_of_no_texts_works():
    tokenizer = build_tokenizer([])
    assert len(tokenizer(chat(tokenizer, ""))["input_ids"]) == 5
