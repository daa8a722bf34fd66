"""What a folder of collected codes belongs to: one small JSON file, written before the first chunk."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sae.errors import UserError

__all__ = ["FORMAT_VERSION", "MANIFEST", "CollectPlan", "read_plan"]

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class CollectPlan:
    """Everything that determines the codes, and the sizes that follow from it.

    Attributes:
        belongs_to: what the caller says about model, text and SAE; JSON can hold it.
        sae_sha256: of the SAE's weights.
        architecture: name of the SAE's class.
        num_latents: d_sae.
        hook_points: what the encoder reads, in the order in which it lies side by side.
        blocks_sha256: fingerprint of the token blocks.
        num_blocks: token blocks.
        context_length: positions in a block.
        num_rows: kept positions of all blocks: tokens that latents are read on.
        chunk_blocks: blocks in a chunk; the last may have fewer.
        effects: how effects on the loss are estimated; None where they are not.
        layers: names of the layers where each position has a row for each of several; empty where it has one row.
        format_version: of this layout.
    """

    belongs_to: Mapping[str, Any]
    sae_sha256: str
    architecture: str
    num_latents: int
    hook_points: tuple[str, ...]
    blocks_sha256: str
    num_blocks: int
    context_length: int
    num_rows: int
    chunk_blocks: int
    effects: Mapping[str, Any] | None
    layers: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION

    @property
    def identity(self) -> str:
        """Checksum of all of it; each chunk carries it, so that chunks of two collections are told apart."""
        return hashlib.sha256(json.dumps(self._content(), sort_keys=True).encode()).hexdigest()

    @property
    def rows_per_position(self) -> int:
        """Rows of codes for each kept position."""
        return max(1, len(self.layers))

    @property
    def num_chunks(self) -> int:
        """Files that the collection consists of."""
        return -(-self.num_blocks // self.chunk_blocks)

    def span(self, number: int) -> range:
        """Numbers of a chunk's blocks."""
        first = number * self.chunk_blocks
        return range(first, min(first + self.chunk_blocks, self.num_blocks))

    def to_json(self) -> str:
        """The text of the manifest file."""
        return json.dumps({"identity": self.identity, **self._content()}, indent=1) + "\n"

    def _content(self) -> dict[str, Any]:
        """All of it; without layers it is as it was before there were any."""
        content = asdict(self)
        if not self.layers:
            del content["layers"]
        return content

    def difference(self, other: "CollectPlan") -> str:
        """The first thing in which another plan differs, in the reader's words."""
        for words, name in (
            ("SAE", "sae_sha256"),
            ("text (token blocks)", "blocks_sha256"),
            ("hook points", "hook_points"),
            ("layers", "layers"),
            ("blocks a chunk", "chunk_blocks"),
            ("effects on the loss", "effects"),
            ("origin", "belongs_to"),
        ):
            if getattr(self, name) != getattr(other, name):
                return f"its {words}: {getattr(self, name)} there, {getattr(other, name)} now"
        return "its manifest differs"


def read_plan(folder: Path) -> CollectPlan:
    """Read a folder's manifest.

    Args:
        folder: of collected codes.

    Raises:
        UserError: there is none, or it is damaged, altered or of another version.
    """
    path = folder / MANIFEST
    again = "Delete the folder and collect again."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, identity = content["format_version"], content.pop("identity")
    except FileNotFoundError:
        raise UserError(f"{folder} holds no collected codes: {MANIFEST} is missing.") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged, or no manifest of collected codes ({error}). {again}") from error
    if version != FORMAT_VERSION:
        raise UserError(f"{path} has format version {version}; this version of sae reads {FORMAT_VERSION}. {again}")
    try:
        tuples = {name: tuple(content[name]) for name in ("hook_points", "layers") if name in content}
        plan = CollectPlan(**{**content, **tuples})
    except (TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged: {error}. {again}") from error
    if plan.identity != identity:
        raise UserError(f"{path} was altered: it no longer has its own checksum. {again}")
    return plan
