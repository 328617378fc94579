"""The tokenizer's files in a checkpoint folder, read as plain JSON and text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.errors import EdgeftError
from edgeft.files import require_object, require_text
from edgeft.given_template import given_template


@dataclass(frozen=True)
class AddedToken:
    """A token that is matched in the text before it is split: `special` ones carry control, not text."""

    id: int
    content: str
    special: bool


@dataclass(frozen=True)
class TokenizerFiles:
    """What a checkpoint says about its tokenizer. Absent files are empty, `model_path` (SentencePiece) None."""

    folder: Path
    tokenizer: dict[str, Any]
    settings: dict[str, Any]
    generation: dict[str, Any]
    model_path: Path | None
    templates: dict[str, str]

    @classmethod
    def read(cls, folder: Path, *, tuned: bool = False) -> TokenizerFiles:
        """Reads a folder; with `tuned` a model without a chat template has the one that it was tuned with.

        Raises EdgeftError for files that are not what they claim, and when there is no tokenizer at all.
        """
        given = given_template(folder) if tuned else None
        model_path = folder / "tokenizer.model"
        files = cls(
            folder=folder,
            tokenizer=require_object(folder / "tokenizer.json"),
            settings=require_object(folder / "tokenizer_config.json"),
            generation=require_object(folder / "generation_config.json"),
            model_path=model_path if model_path.is_file() else None,
            templates=_templates(folder) or ({"default": given.text} if given else {}),
        )
        if not files.tokenizer and files.model_path is None:
            raise EdgeftError("no tokenizer.json and no tokenizer.model", str(folder), "copy the tokenizer's files")
        return files

    @property
    def model(self) -> dict[str, Any]:
        """tokenizer.json's model: its type, vocabulary and merges."""
        model = self.tokenizer.get("model")
        return model if isinstance(model, dict) else {}

    def added_tokens(self) -> list[AddedToken]:
        """Returns the added tokens by id: tokenizer.json's, else added_tokens.json's and tokenizer_config.json's."""
        try:
            if "added_tokens" in self.tokenizer:
                found = [_added(entry["id"], entry) for entry in self.tokenizer["added_tokens"]]
            else:
                plain = require_object(self.folder / "added_tokens.json").items()
                by_id = {int(number): AddedToken(int(number), content, False) for content, number in plain}
                described = self.settings.get("added_tokens_decoder") or {}
                by_id |= {int(number): _added(int(number), entry) for number, entry in described.items()}
                found = list(by_id.values())
        except (KeyError, TypeError, ValueError) as error:
            raise EdgeftError(f"its added tokens cannot be read: {error!r}", str(self.folder)) from error
        return sorted(found, key=lambda token: token.id)

    def token_name(self, role: str) -> str | None:
        """Returns the text of the token that tokenizer_config.json gives a role (bos, eos, pad, ...), or None."""
        entry = self.settings.get(f"{role}_token")
        content = entry.get("content") if isinstance(entry, dict) else entry
        return content if isinstance(content, str) else None


def _added(number: int, entry: dict[str, Any]) -> AddedToken:
    return AddedToken(number, entry["content"], bool(entry.get("special")))


def _templates(folder: Path) -> dict[str, str]:
    """Returns the chat templates by name. chat_template.jinja wins over tokenizer_config.json, as in transformers."""
    declared = require_object(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(declared, list):
        templates = {entry["name"]: entry["template"] for entry in declared}
    else:
        templates = {"default": declared} if isinstance(declared, str) else {}
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        templates["default"] = require_text(jinja)
    more = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    return templates | {path.stem: require_text(path) for path in more}
