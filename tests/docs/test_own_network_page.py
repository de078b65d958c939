"""The networks on the page about own networks are those of the examples, which run."""

from __future__ import annotations

import re


def test_networks_on_the_page_are_those_of_the_examples(repository):
    page = (repository / "docs" / "how-to" / "own-network.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```py\n(class .*?)^```", page, re.DOTALL | re.MULTILINE)
    examples = [
        (repository / "examples" / f"{name}_network{end}.py").read_text(encoding="utf-8")
        for name, end in (("own", ""), ("pyg", "s"), ("dgl", "s"))
    ]
    assert len(shown) == len(examples)
    for block, example in zip(shown, examples, strict=True):
        assert block in example
