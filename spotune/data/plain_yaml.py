"""YAML from strangers: words, lists and mappings, and nothing that a small file can make large."""

from __future__ import annotations

import yaml


def read_plain(body: bytes) -> object:
    """A document's strings, lists and dicts; a number is a string too.

    Raises:
        ValueError: it is no such document: anchors, aliases, a key that stands twice, several documents.
    """
    try:
        return yaml.load(body.decode(), _Plain)  # noqa: S506 - it makes nothing but strings
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


class _Plain(yaml.BaseLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.YAMLError("it has an anchor or an alias")
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.MappingNode):
            keys = {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
            if len(keys) != len(node.value):
                raise yaml.YAMLError("a key stands twice, or is no word")
        return node
