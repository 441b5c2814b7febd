"""The page of all keys is what the code says, and every key has a sentence."""

from __future__ import annotations

import re

from pipeline.models import FAMILIES
from pipeline.params.reference import SECTIONS, reference
from tests import ROOT


def test_the_page_is_fresh() -> None:
    page = (ROOT / "docs/params.md").read_text()
    assert page == reference(), "run `python -m pipeline.params.reference > docs/params.md`"


def test_every_key_has_a_sentence_and_what_is_allowed() -> None:
    rows = [line.split(" | ") for line in reference().splitlines() if line.startswith("| `")]
    keys = sum(len(section.model_fields) for _, section, _ in SECTIONS)
    keys += sum(len(family.model_fields) - 1 for family in FAMILIES.values())
    assert len(rows) == keys
    for key, allowed, _, *sentence in rows:
        assert re.search(r"\w", allowed), key
        assert re.search(r"\w{3}", " ".join(sentence)), key
