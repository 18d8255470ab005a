"""The chat format of teacher and student, assembled from token pieces.

The teacher's sequence is prefix | question | trace | closing; the score position is the last
token of the closing. The student's sequence is prefix | lines: one line per dimension, each ending
at its score position and followed by a constant mark in place of an answer. The prefix (system
text, image, prompt) is the same for both. User text is encoded without added tokens, special or
not, so it can neither open a turn, nor close a trace, nor move the score position.
"""

from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from zreward_core.config import Count, Settings, UserError, is_unicode
from zreward_core.rubric import Rubric

TEMPLATE_VERSION = 1
THINK_OPEN = "<think>"
_PROMPT, _QUESTION = "\ue001", "\ue002"
KEPT_TEXTS, KEPT_CHARACTERS = 4096, 500
"""Texts whose tokens are cached, and their characters, at most: a prompt is encoded several times
while its image is scored, and often scored with several images."""


class PromptSettings(Settings):
    """Texts around image and prompt; {name}, {title}, {question}, {levels} are filled in."""

    system: str
    """System message; {labels} is the list of the levels' labels."""
    label_separator: str = ", "
    """Text between two labels of that list."""
    question: str
    """The teacher's question, one dimension at a time."""
    question_separator: str = "\n"
    """Text between the prompt and the question."""
    score: str
    """Text after the closed trace; the next token is the score."""
    line: str
    """The student's line for a dimension; the next token is the score."""
    mark: str
    """Text in place of an answer, between the student's lines."""
    think_close: str | None = None
    """The token that ends a trace; null for the model family's own."""
    max_trace_tokens: Count
    """Length limit of a trace, in tokens; a longer one is closed at the limit."""


class PromptRefused(UserError):
    """The prompt cannot be given to the model."""


class PromptTooLong(PromptRefused):
    """The prompt has more tokens than the model's positions leave for it."""


class ChatFormat:
    """Token pieces of every sequence for one tokenizer, rubric and prompt settings."""

    max_prompt_tokens: int
    """Tokens that a prompt may have: the positions of the model that image, questions, trace and
    score leave free."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        settings: PromptSettings,
        rubric: Rubric,
        image_token_id: int,
        num_positions: int,
    ) -> None:
        """Assemble the pieces.

        Args:
            num_positions: tokens of a sequence, without those of the largest image.

        Raises:
            UserError: tokenizer, rubric and settings do not fit, or no position is left.
        """
        self.tokenizer = tokenizer
        self._plain = without_added_tokens(tokenizer)
        self._keep_texts()
        self._added = set(tokenizer.added_tokens_decoder)
        self.image_token_id = image_token_id
        system = settings.system.format(labels=settings.label_separator.join(rubric.labels))
        content: list[dict[str, str]] = [
            {"type": "image"},
            {"type": "text", "text": _PROMPT + settings.question_separator + _QUESTION},
        ]
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": system},
            {"role": "user", "content": content},
        ]
        head, rest = self._render(messages, thinking=True).split(_PROMPT)
        between, opening = rest.split(_QUESTION)
        content[1]["text"] = _PROMPT
        answer = self._render(messages, thinking=False).split(_PROMPT)[1]
        if answer.rstrip().endswith(THINK_OPEN):  # a template that always opens a thinking block
            answer += f"\n{settings.think_close}\n\n"
        self.head = self._ids(head)
        if self.head.count(image_token_id) != 1:
            raise UserError(
                "the chat template must insert exactly one image token per image: use a "
                "checkpoint whose template does"
            )
        texts = [_texts(rubric, index) for index in range(len(rubric.dimensions))]
        self.around_question = between, opening
        self.questions = [self.ask(settings.question.format(**text)) for text in texts]
        assert settings.think_close is not None, "the backbone fills in the family's token"
        close: Any = tokenizer.convert_tokens_to_ids(settings.think_close)
        if close is None or close == tokenizer.unk_token_id:
            raise UserError(
                f"the tokenizer has no token {settings.think_close!r} to end a trace: name one in "
                "base_vlm.prompt.think_close"
            )
        self.close_id: int = close
        self.plain_question = self._ids(opening)
        self.next_turn = self._ids(self._between_turns())
        self.closing = [self.close_id, *self._ids(settings.score)]
        self.label_ids = self._label_ids(settings.think_close + settings.score, rubric)
        self.lines, self.score_offsets = self._lines(answer, settings, texts, rubric)
        self.forbidden = [i for i in self._special_ids() if i != self.close_id]
        trace = settings.max_trace_tokens + len(self.closing) + 1
        taken = max(len(self.lines), trace + max(map(len, self.questions)))
        self.max_prompt_tokens = num_positions - len(self.head) - taken
        if self.max_prompt_tokens < 1:
            raise UserError(
                f"the model has {1 - self.max_prompt_tokens} positions too few for the largest"
                " image, the questions and a trace: lower base_vlm's max_pixels or its"
                " prompt.max_trace_tokens"
            )

    def _keep_texts(self) -> None:
        self._kept = lru_cache(KEPT_TEXTS)(self._encode)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_kept"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._keep_texts()  # a copy, or a model in another process, keeps texts of its own

    def prefix(self, prompt: str, num_image_tokens: int) -> list[int]:
        """System text, an image's placeholder tokens, and the prompt as plain text."""
        at = self.head.index(self.image_token_id)
        image = [self.image_token_id] * num_image_tokens
        return self.head[:at] + image + self.head[at + 1 :] + self.prompt(prompt)

    def prompt(self, text: str) -> list[int]:
        """Tokens of a prompt.

        Raises:
            PromptTooLong: it has more than ``max_prompt_tokens``.
            PromptRefused: it is blank, or not Unicode text.
        """
        if not isinstance(text, str):
            raise PromptRefused(f"the prompt is of type {type(text).__name__}: pass a text")
        if not text.strip():
            raise PromptRefused("the prompt is empty: pass the text that the image was made for")
        if not is_unicode(text):
            raise PromptRefused(f"the prompt {text[:60]!a} is not Unicode text; correct it")
        tokens = self.plain(text)
        if len(tokens) > self.max_prompt_tokens:
            raise PromptTooLong(
                f"the prompt {text[:60]!r}... has {len(tokens):,} tokens, more than the"
                f" {self.max_prompt_tokens:,} that the model has positions for: shorten it"
            )
        return tokens

    def prompt_of_row(self, row: int, text: str) -> list[int]:
        """``prompt``; the messages of its errors begin with the row."""
        try:
            return self.prompt(text)
        except PromptRefused as error:
            raise type(error)(f"row {row}: {error}") from None

    def plain(self, text: str) -> list[int]:
        """Tokens of a text from outside: none of them is an added token."""
        if len(text) > KEPT_CHARACTERS:
            return list(self._encode(text))
        return list(self._kept(text))

    def image(self, num_image_tokens: int) -> list[int]:
        """The start of a user's turn with an image, without system text."""
        at = self.head.index(self.image_token_id)
        opened = max(i for i in range(at) if self.head[i] == self.head[0])
        image = [self.image_token_id] * num_image_tokens
        return self.head[opened:at] + image + self.head[at + 1 :]

    def ask(self, question: str) -> list[int]:
        """The rest of the user's turn and the opening of the answer, up to the trace."""
        between, opening = self.around_question
        return self._ids(between + question + opening)

    def text(self, tokens: list[int]) -> str:
        """A trace as text, without its closing token."""
        kept = [token for token in tokens if token != self.close_id]
        return str(self.tokenizer.decode(kept, skip_special_tokens=False)).strip()

    def trace(self, text: str) -> list[int]:
        """Tokens of a trace given as text, with its closing token."""
        return [*self.plain(text), self.close_id]

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(i for i in self._plain.encode(text).ids if i not in self._added)

    def _between_turns(self) -> str:
        """Text from the end of an answer to the start of the user's next turn."""
        turns = [{"role": role, "content": _PROMPT} for role in ("user", "assistant", "user")]
        rendered = self.tokenizer.apply_chat_template(turns, tokenize=False)
        return str(rendered).split(_PROMPT)[2]

    def _render(self, messages: list[dict[str, Any]], thinking: bool) -> str:
        return self.tokenizer.apply_chat_template(  # type: ignore[return-value]
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _label_ids(self, before: str, rubric: Rubric) -> list[int]:
        """Token id of each label, checked in the context that precedes it."""
        context = self._ids(before)
        ids = []
        for label in rubric.labels:
            together = self._ids(before + label)
            known = together[-1] != self.tokenizer.unk_token_id
            if together[:-1] != context or not known:
                raise UserError(
                    f"data/rubric.yaml: label {label!r} is not one token of this model after "
                    f"{before!r}: choose a label that is a single token"
                )
            ids.append(together[-1])
        if len(set(ids)) != len(ids):
            raise UserError(
                "data/rubric.yaml: two labels are the same token of this model: rename one"
            )
        return ids

    def _lines(
        self, answer: str, settings: PromptSettings, texts: list[dict[str, str]], rubric: Rubric
    ) -> tuple[list[int], list[int]]:
        """The student's lines, and the score position of each dimension within them."""
        tokens = self._ids(answer)
        offsets = []
        for text in texts:
            line = settings.line.format(**text)
            if self._label_ids(line, rubric) != self.label_ids:
                raise UserError(
                    f"a label is a different token after the line {line!r} than after a trace: "
                    "change base_vlm.prompt.line"
                )
            tokens += self._ids(line)
            offsets.append(len(tokens) - 1)
            tokens += self._ids(settings.mark)
        return tokens[: offsets[-1] + 1], offsets

    def _special_ids(self) -> list[int]:
        added = self.tokenizer.added_tokens_decoder
        return sorted(i for i, token in added.items() if token.special or i == self.image_token_id)


def without_added_tokens(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The tokenizer's model without its added tokens, so that ``</think>`` is read as text.

    transformers' ``split_special_tokens`` does so only for the tokens that are flagged as special,
    which Qwen's thinking tokens are not.

    Raises:
        UserError: the tokenizer is not one of the library tokenizers.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            f"{type(tokenizer).__name__} has no tokenizer.json: use a checkpoint that has one"
        )
    plain = Tokenizer(backend.model)
    plain.normalizer, plain.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    return plain


def _texts(rubric: Rubric, index: int) -> dict[str, str]:
    dimension = rubric.dimensions[index]
    levels = "\n".join(
        f"{rubric.labels[rubric.levels.index(score)]} ({score:g}): {text}"
        for score, text in sorted(dimension.levels.items())
    )
    return {
        "name": dimension.name,
        "title": dimension.title,
        "question": dimension.question,
        "levels": levels,
    }
