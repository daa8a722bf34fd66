"""What the server answers about a dashboard of factors: a text's path, a word's occurrences, a context's saliency."""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final, get_args

from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.factor_schema import PathPage, Saliency, SaliencyMethod, WordPage
from sae.dashboards.latents.text import Text
from sae.dashboards.live.fields import kind_of, known_fields, text_field, whole_field
from sae.dashboards.live.messages import HelloAnswer, Limits
from sae.dashboards.live.reader import COLLECTED
from sae.dashboards.live.requests import LIMITS, defaults, read_text
from sae.dashboards.live.server import serve_answers
from sae.dashboards.pages.display import displayed, displayed_text, displayed_together
from sae.errors import UserError
from sae.factors.paths import PathReader
from sae.factors.saliency.measure import saliency_of
from sae.factors.saliency.methods import measured
from sae.factors.saliency.reader import ActivationReader
from sae.factors.saliency.settings import SaliencySettings
from sae.factors.saliency.targets import target_of
from sae.factors.settings import FactorSettings
from sae.factors.subject import FactorSubject
from sae.factors.words import word_pages

__all__ = ["FactorAnswers", "serve_factors"]


@final
class FactorAnswers:
    """Answers about one model and a dictionary over several of its layers.

    Args:
        subject: model, dictionary and layers.
        text_of: what a token is shown as, from its id.
        texts_of: what the tokens of a text are shown as, from their ids in order.
        read_as: what a text is shown as once it is tokens.
        settings: what pages show.
        saliency: how it is measured.
        limits: of requests.
        collected: folder of the dashboard's collected text, which may be absent.
    """

    def __init__(
        self,
        subject: FactorSubject,
        *,
        text_of: Callable[[int], str],
        texts_of: Callable[[Sequence[int]], list[str]],
        read_as: Callable[[str], str],
        settings: FactorSettings,
        saliency: SaliencySettings,
        limits: Limits,
        collected: Path,
    ) -> None:
        self.subject, self.limits = subject, limits
        self._text_of, self._texts_of, self._read_as = text_of, texts_of, read_as
        self._settings, self._saliency, self._collected = settings, saliency, collected
        self._reader = ActivationReader(subject, batch_tokens=saliency.batch_tokens)
        self._paths = PathReader(
            subject,
            texts_of=texts_of,
            strongest=settings.strongest,
            max_characters=limits["characters"],
            max_tokens=limits["tokens"],
        )
        self._opened: tuple[CollectedCodes, Text] | None = None

    @property
    def posts(self) -> dict[str, Callable[[Mapping[str, Any]], Any]]:
        """What is answered to which POST."""
        return {"path": self.path, "word": self.word, "saliency": self.saliency}

    def hello(self) -> HelloAnswer:
        """What can be asked."""
        model = self.subject.model
        return {
            "version": importlib.metadata.version("sae"),
            "model": str(model.provenance().get("name", type(model.module).__name__)),
            "hook_point": ", ".join(point.name for point in self.subject.points),
            "d_sae": self.subject.sae.d_sae,
            "steer": False,
            "ablate": False,
            "limits": {**self.limits, "tokens": self._paths.max_tokens},
            "defaults": defaults(self.limits),
        }

    def path(self, fields: Mapping[str, Any]) -> PathPage:
        """Answer of `/api/path`.

        Raises:
            UserError: something is wrong with the request.
        """
        return self._paths.page(read_text(fields))

    def word(self, fields: Mapping[str, Any]) -> WordPage:
        """Answer of `/api/word`.

        Raises:
            UserError: something is wrong with the request, or the word is nowhere in the text.
        """
        known_fields(fields, ("word",))
        word = text_field(fields, "word", "apple")
        codes, text = self._codes()
        (page,) = word_pages(
            codes,
            text,
            [word],
            num_layers=self.subject.num_layers,
            settings=self._settings,
            text_of=self._text_of,
            texts_of=self._texts_of,
            read_as=self._read_as,
        )
        if page["total"] == 0:
            raise UserError(f"{page['word']!r} is nowhere in the dashboard's text as a whole word. Try another word.")
        return page

    def saliency(self, fields: Mapping[str, Any]) -> Saliency:
        """Answer of `/api/saliency`.

        Raises:
            UserError: something is wrong with the request.
        """
        known_fields(fields, ("factor", "layer", "block", "position", "method"))
        method = _method(fields)
        codes, _ = self._codes()
        subject = self.subject
        factor = whole_field(fields, "factor", 0, subject.sae.d_sae - 1)
        layer = whole_field(fields, "layer", 0, subject.num_layers - 1)
        block = codes.block(whole_field(fields, "block", 0, codes.num_blocks - 1))
        position = whole_field(fields, "position", 0, codes.context_length - 1)
        if not bool(block.keep[0, position]):
            raise UserError(f"Position {position} holds a special token or padding: no factor is read there.")
        target = target_of(subject.model, block, position=position, layer=layer, factor=factor)
        (weights,) = measured(self._reader, [target], method, self._saliency)
        return saliency_of(method, weights, 0, codes.context_length)

    def _codes(self) -> tuple[CollectedCodes, Text]:
        if self._opened is None:
            if not self._collected.is_dir():
                raise UserError("The dashboard's collected text is no longer in its folder: build the dashboard again.")
            codes = CollectedCodes(self._collected)
            self._opened = codes, Text.of([codes.chunk(number).blocks for number in range(len(codes))])
        return self._opened


def _method(fields: Mapping[str, Any]) -> SaliencyMethod:
    method = fields.get("method")
    known: tuple[SaliencyMethod, ...] = get_args(SaliencyMethod)
    for name in known:
        if method == name:
            return name
    got = repr(method[:40]) if isinstance(method, str) else kind_of(method)
    raise UserError(f"method is {got}. Expected one of {', '.join(known)}.")


def serve_factors(
    folder: Path,
    subject: FactorSubject,
    *,
    settings: FactorSettings,
    saliency: SaliencySettings,
    host: str,
    port: int,
    open_browser: bool,
    say: Callable[[str], None],
) -> int:
    """Serve a dashboard of factors until Ctrl-C.

    Args:
        folder: of the dashboard.
        subject: model, dictionary and layers that it is of.
        settings: what pages show.
        saliency: how it is measured.
        host: name or address to listen on; 127.0.0.1 is this machine alone.
        port: to listen on; 0 takes any that is free.
        open_browser: whether to show the page.
        say: where the address is told.

    Returns:
        The exit status: 0.

    Raises:
        UserError: there is no dashboard, or the port cannot be had.
    """

    def answers() -> FactorAnswers:
        return FactorAnswers(
            subject,
            text_of=displayed(subject.model.tokenizer),
            texts_of=displayed_together(subject.model.tokenizer),
            read_as=displayed_text(subject.model.tokenizer),
            settings=settings,
            saliency=saliency,
            limits=LIMITS,
            collected=folder / COLLECTED,
        )

    return serve_answers(folder, answers, model=subject.model, host=host, port=port, open_browser=open_browser, say=say)
