"""Names of strangers and secrets of users, on their way to a terminal."""

from __future__ import annotations

import pytest

from pipeline.core.errors import one_line, printable
from pipeline.core.redact import without_credentials


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat.png", "cat.png"),
        ("été 猫 🐈", "été 猫 🐈"),
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("a\nb\tc\x7f\x9b", r"a\nb\tc\x7f\x9b"),
        ("gnp\u202e.exe", r"gnp\u202e.exe"),
        ("\udcff.png", r"\udcff.png"),
    ],
)
def test_names_are_shown_and_never_obeyed(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("http://alice:pw@host:5000/path", "http://***@host:5000/path"),
        (
            "postgresql+psycopg2://u:p/w@d@db/runs is not responding",
            "postgresql+psycopg2://***@db/runs is not responding",
        ),
        ("'https://token@host'; s3://a:b@c", "'https://***@host'; s3://***@c"),
        ("az://c/x?sv=1&sig=abc%3D&se=2", "az://c/x?sv=1&sig=***&se=2"),
        (
            "s3://b/x?X-Amz-Signature=0f&X-Amz-Credential=AK",
            "s3://b/x?X-Amz-Signature=***&X-Amz-Credential=***",
        ),
        ("http://host:5000/#/experiments", "http://host:5000/#/experiments"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("write to me@example.org, key=value", "write to me@example.org, key=value"),
    ],
)
def test_urls_lose_user_password_and_token_and_nothing_else(text: str, left: str) -> None:
    assert without_credentials(text) == left


def test_a_secret_is_removed_before_a_message_is_cut_short() -> None:
    cut = one_line(ValueError("x" * 180 + " http://alice:SECRET" + "E" * 100 + "@host"))
    assert cut.endswith("x http://***@host")
    assert len(one_line(ValueError("x" * 300))) == 200
    assert one_line(ValueError()) == "ValueError"
