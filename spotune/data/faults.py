"""The list of what is wrong with a dataset, and the remedy for each rule."""

from __future__ import annotations

from spotune.contracts.dataset import MAX_FAULTS, Fault, RowFormat
from spotune.contracts.errors import RequestRefused

REMEDIES: dict[str, str] = {
    # The file as a whole.
    "empty_file": "Upload a file with one JSON object on each line.",
    "utf16": "Save the file as UTF-8 without a byte order mark and upload it again.",
    "utf8_bom": 'Save the file as UTF-8 without a byte order mark ("UTF-8", not "UTF-8 with BOM").',
    "binary_file": "Upload the rows as uncompressed JSONL: UTF-8 text, one JSON object on each line.",
    "csv_file": "Convert it to JSONL: one JSON object on each line, with the column names as keys.",
    "json_array": "Write each element of the array as one line, without the outer brackets and the commas between.",
    "pretty_printed": "Write each object on one line, without line breaks or indentation between its fields.",
    "mixed_formats": "Give all rows of a file the same fields; upload rows of another format as a file of their own.",
    "wrong_objective": "Change method.type to one that learns from such rows, or upload rows of its format.",
    "all_truncated": "Raise training.max_sequence_length, or shorten the prompts.",
    # The base model's own files.
    "broken_chat_template": "Repair the chat template in the base model's folder.",
    "no_chat_template": "Choose an instruction-tuned base model, or give prompt/completion rows.",
    "template_without_loss_mask": (
        "Mark the assistant's text in the model's chat template with {% generation %}, end-of-turn token included, "
        "or train on the last turn alone (training.loss_on last_turn)."
    ),
    "template_without_tools": (
        "Choose a base model whose chat template writes tools, calls and their results, or write them as plain text."
    ),
    "template_without_stop_token": (
        "Use the chat template that belongs to this tokenizer, or add its end-of-turn token to the tokenizer."
    ),
    "broken_tokenizer": "Add the base model again, from a folder that transformers can load.",
    "tokenizer_without_eos": "Name eos_token in the model's tokenizer_config.json, as the tokenizer knows it.",
    # One line of the file.
    "line_too_long": "Split the row, or remove what does not belong in it.",
    "blank_line": "Remove the blank line.",
    "nul_byte": "Remove the NUL bytes; if there are many, the file was damaged or is no text file.",
    "invalid_utf8": "Save the file as UTF-8.",
    "truncated_json": "The file was cut short: write or upload it again, whole.",
    "malformed_json": "Write each row as one JSON object on one line, with a JSON library rather than by hand.",
    "nested_too_deeply": "Write the row's fields as plain strings.",
    "not_a_number": "JSON has no NaN or Infinity: remove the value.",
    "duplicate_key": "Keep one of the two values.",
    "not_an_object": 'Write each row as an object, such as {"messages": [...]}.',
    # One row.
    "unknown_format": (
        "Use one of: messages; instruction, input and output; prompt and completion; text; prompt, chosen and "
        "rejected; prompt, completion and label. docs/data.md has examples."
    ),
    "ambiguous_row": "Keep the fields of one format only.",
    "missing_field": "Add the field.",
    "unknown_field": "Remove the field; what the model should see belongs in the fields of the format.",
    "not_a_string": "Give plain text as a string.",
    "empty_content": "Give it some text, or remove the row.",
    "nul_character": "Remove the NUL character (\\u0000).",
    "lone_surrogate": "Write characters beyond U+FFFF as a whole surrogate pair, or as they are.",
    "slice_too_long": "Name the slice in a few words.",
    "wrong_choices": "Give `choices` as a list of different strings, one of them the row's own answer.",
    # One chat.
    "not_a_list": 'Give a list of messages: [{"role": "user", "content": "..."}, ...].',
    "too_many_messages": "Split the chat into several rows.",
    "not_a_message": 'Write each message as {"role": "...", "content": "..."}.',
    "wrong_role": "Use the roles system, user, assistant and tool.",
    "wrong_weight": "Give `weight` 0 or 1, on assistant turns only; 0 leaves a turn out of the loss.",
    "no_assistant_turn": "Add the answer that the model should learn, as a turn with role assistant.",
    "nothing_trained": "Leave at least one assistant turn with weight 1.",
    "wrong_order": (
        "Order the turns: at most one system turn, first; then a user turn; one assistant turn after a user or tool "
        "turn; an assistant turn last."
    ),
    # Tools.
    "wrong_tool": 'Declare each as {"type": "function", "function": {"name": "...", "parameters": {...}}}.',
    "wrong_tool_call": (
        'Write each call as {"id": "...", "type": "function", "function": {"name": "...", "arguments": "{...}"}}.'
    ),
    "wrong_arguments": 'Write the arguments as JSON text of one object, such as "{\\"city\\": \\"Lima\\"}".',
    "unknown_tool": "Declare the function in the row's `tools`, or correct the name that is called.",
    "unmatched_call": "Follow a turn with calls by one tool turn for each, with the call's id as tool_call_id.",
    # Judged answers.
    "wrong_label": "Give `label` true for a good answer and false for a bad one.",
    "equal_answers": "Remove the row: it shows no preference.",
    # Golden prompts.
    "no_expectation": "Say in `expected` what the answer is to be: a text, or the shape of a JSON object or array.",
    "no_golden_prompt": "Give the line messages, prompt, or instruction with input; and `expected`.",
    "golden_with_answer": "Remove the answer: what is expected of it stands in `expected`.",
    "too_many_golden_prompts": "Keep the prompts that matter most: each model answers all of them.",
    "golden_too_large": "Keep the prompts that matter most: a golden file is read whole.",
    "expectation_too_long": "Expect a shorter text, or the shape of what it holds.",
    "golden_prompt_too_long": "Shorten the prompt, or choose a base model of a longer context.",
    "shape_too_deep": "Say `<any>` for what lies deeper.",
    "template_refused_row": "Change the row as the model's chat template asks, or choose another base model.",
}
"""Every rule, and what to do where it is broken. docs/data.md explains them."""


def model_refused(code: str, message: str) -> RequestRefused:
    """The refusal of a base model whose files do not serve for this dataset; `code` is a key of `REMEDIES`."""
    return RequestRefused(message, code=code, param="model", remedy=REMEDIES[code])


class FaultList:
    """Collects faults: keeps the first 100, counts all, one for a rule and line.

    `read_examples` also keeps here what it knows of the file: the good `rows` so far and their `format`.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.count = 0
        self.rows = 0
        self.format: RowFormat | None = None
        self._line = 0
        self._rules_of_line: set[str] = set()
        self._rules_of_file: set[str] = set()

    def noted(self, line: int) -> bool:
        """True where the line, the last one that had any, has a fault."""
        return line == self._line and bool(self._rules_of_line)

    def note(self, line: int, refused: RequestRefused) -> None:
        """Note what a row, or for line 0 the model, was refused for."""
        message = str(refused).removesuffix(refused.remedy).strip()
        self.add(line, "messages" if line else "", refused.code, message, refused.remedy)

    def add(self, line: int, field: str, rule: str, message: str, remedy: str = "") -> None:
        """Note a fault; lines come in order, line 0 (the file as a whole) at any time.

        Args:
            line: the line, counted from 1, or 0 for the file.
            field: dotted path of the field (`messages[2].role`), empty for the line as a whole.
            rule: a key of `REMEDIES`.
            message: what is wrong, in one sentence.
            remedy: what to do about it, where the rule's own remedy can be bettered.
        """
        if line == 0:
            rules = self._rules_of_file
        else:
            if line != self._line:
                self._line, self._rules_of_line = line, set()
            rules = self._rules_of_line
        if rule in rules:
            return
        rules.add(rule)
        self.count += 1
        if len(self.faults) < MAX_FAULTS:
            remedy = remedy or REMEDIES[rule]
            self.faults.append(Fault(line=line, field=field, rule=rule, message=message, remedy=remedy))
