"""Talks to a tuned model: `python -m training_container.chat --model DIR --adapter DIR [--prompt TEXT]`."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

MAX_NEW_TOKENS = 256


def main(arguments: list[str] | None = None) -> int:
    """Answer one prompt, or take turns until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m training_container.chat", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the base model's folder")
    parser.add_argument("--adapter", type=Path, help="the published folder; without it the base model answers")
    parser.add_argument("--system", help="a system message that comes first")
    parser.add_argument("--prompt", help="answer this and end; otherwise turns are read from the input")
    options = parser.parse_args(arguments)
    for folder in (options.model, options.adapter):
        if folder is not None and not folder.is_dir():
            print(f"There is no folder {folder}.", file=sys.stderr)
            return 2
    _quiet()
    chat = Chat(options.model, options.adapter, system=options.system)
    if options.prompt is not None:
        print(chat.answer(options.prompt))
        return 0
    return _take_turns(chat)


def _quiet() -> None:
    """Leave the terminal to the conversation: libraries warn of their own future and of kernels that nobody needs."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


class Chat:
    """A conversation with a model on this machine, answered greedily."""

    def __init__(self, model: Path, adapter: Path | None, *, system: str | None = None) -> None:
        """`adapter` is a published folder: an adapter, or a whole model, which then takes the base's place."""
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        from spotune.contracts.training import HardwareConfig
        from training_container.device import find_machine

        disable_progress_bar()
        hardware = HardwareConfig(micro_batch_size=1, gradient_checkpointing=False)
        self._machine = find_machine(hardware)
        beside = adapter is not None and (adapter / "adapter_config.json").exists()
        weights = model if adapter is None or beside else adapter
        self._tokenizer = AutoTokenizer.from_pretrained(weights, local_files_only=True)
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            weights, dtype=self._machine.dtype, local_files_only=True, use_safetensors=True
        ).to(self._machine.device)
        if adapter is not None and beside:
            from training_container.methods.published import load_adapter

            self._model = load_adapter(self._model, adapter)
        self._model.eval()
        self._messages = [{"role": "system", "content": system}] if system else []

    def answer(self, prompt: str) -> str:
        """The model's next turn; both turns stay in the conversation."""
        import torch
        from transformers import GenerationConfig

        from training_container.ends import ends_of

        self._messages.append({"role": "user", "content": prompt})
        tokens = self._tokenizer.apply_chat_template(
            self._messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self._machine.device)
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=MAX_NEW_TOKENS,
            eos_token_id=ends_of(self._tokenizer.eos_token_id, self._model.generation_config),
            pad_token_id=self._tokenizer.pad_token_id,
        )
        with torch.no_grad(), self._machine.autocast():
            output = self._model.generate(**tokens, generation_config=settings)
        text: str = self._tokenizer.decode(output[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True)
        self._messages.append({"role": "assistant", "content": text})
        return text.strip()


def _take_turns(chat: Chat) -> int:
    print("Ctrl-D ends the conversation.", file=sys.stderr)
    while True:
        try:
            prompt = input("> ")
        except (EOFError, KeyboardInterrupt):
            return 0
        if prompt.strip():
            print(chat.answer(prompt))


if __name__ == "__main__":
    sys.exit(main())
