"""Vision-language backbones: pixels, prompts, score decoding, rollouts, the reward model."""
