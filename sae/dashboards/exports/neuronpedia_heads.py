"""What Neuronpedia calls things, and the files of one line that say so: the release, the model, the set of SAEs, the SAE."""

import re
from dataclasses import dataclass
from typing import Any

from sae.dashboards.schema import Manifest
from sae.errors import UserError

__all__ = ["NeuronpediaNames", "heads"]

SET_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class NeuronpediaNames:
    """What Neuronpedia calls things.

    Attributes:
        model: its id of the model.
        layer: the block that the SAE belongs to.
        source_set: the SAE, together with those of other layers that were trained alike: small letters, digits and hyphens.
        hook: TransformerLens's name of the place without its block, as in `hook_resid_post`.
        creator: id of the user who imports.

    Raises:
        UserError: the source set's name has other letters.
    """

    model: str
    layer: int
    source_set: str
    hook: str
    creator: str

    def __post_init__(self) -> None:
        if not SET_NAME.fullmatch(self.source_set):
            raise UserError(
                f"dashboard.neuronpedia_set={self.source_set!r}: expected small letters, digits and single hyphens between them"
            )

    @property
    def source(self) -> str:
        """Its id of the SAE."""
        return f"{self.layer}-{self.source_set}"


def heads(
    manifest: Manifest, names: NeuronpediaNames, *, width: int, num_layers: int, created_at: str
) -> dict[str, dict[str, Any]]:
    """The one line of each of the files above the batches."""
    creator = {"creatorId": names.creator, "createdAt": created_at}
    release = {
        "name": names.source_set,
        "description": manifest["title"],
        "creatorName": names.creator,
        "visibility": "PUBLIC",
        "isNewUi": False,
        "featured": False,
        "descriptionShort": manifest["title"],
        "urls": [],
        "creatorEmail": None,
        "creatorNameShort": names.creator,
        "defaultSourceSetName": names.source_set,
        "defaultSourceId": names.source,
        "defaultUmapSourceIds": [],
    }
    model = {
        "id": names.model,
        "instruct": "instruct" in names.model.lower() or names.model.endswith("-it"),
        "displayNameShort": names.model,
        "displayName": names.model,
        "tlensId": None,
        "dimension": width,
        "visibility": "PUBLIC",
        "defaultSourceSetName": None,
        "defaultSourceId": None,
        "inferenceEnabled": False,
        "layers": num_layers,
        "neuronsPerLayer": 0,
        "owner": "",
        "updatedAt": created_at,
        "website": None,
    }
    source_set = {
        "modelId": names.model,
        "name": names.source_set,
        "hasDashboards": True,
        "visibility": "PUBLIC",
        "description": manifest["title"],
        "type": str(manifest["sae"].get("architecture") or ""),
        "creatorName": names.creator,
        "urls": [],
        "creatorEmail": None,
        "releaseName": names.source_set,
        "defaultOfModelId": None,
        "defaultRange": 1,
        "defaultShowBreaks": True,
        "showDfa": False,
        "showCorrelated": False,
        "showHeadAttribution": False,
        "showUmap": False,
    }
    source = {
        "id": names.source,
        "modelId": names.model,
        "setName": names.source_set,
        "hasDashboards": True,
        "inferenceEnabled": False,
        "inferenceHosts": [],
        "saelensConfig": None,
        "saelensRelease": None,
        "saelensSaeId": None,
        "hfRepoId": None,
        "hfFolderId": None,
        "visibility": "PUBLIC",
        "defaultOfModelId": None,
        "hasUmap": False,
        "hasUmapLogSparsity": False,
        "hasUmapClusters": False,
        "num_prompts": manifest["blocks"],
        "num_tokens_in_prompt": manifest["context"],
        "dataset": manifest["source"],
        "notes": None,
    }
    heads = {"release": release, "model": model, "sourceset": source_set, "source": source}
    return {name: line | creator for name, line in heads.items()}
