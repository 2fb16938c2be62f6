"""Covariates that are free text as numbers, so that every estimator can adjust for what they carry.

What is made of a text is learned from the texts alone, never from treatments or outcomes: the words that occur
(TF-IDF), or the hidden states of a language model (``LanguageModel.embed``), reduced to their first principal
components. Adjusting for such representations is an approximation: they need not keep what confounds (Veitch, Sridhar
and Blei 2020, "Adapting text embeddings for causal inference"; Keith, Jensen and O'Connor 2020, "Text and causal
inference").
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import as_path, text
from ..engine.many import loaded_lm
from ..errors import DataError, install
from .dataset import Dataset

# Principal components that are kept of each covariate; a data set has hundreds of units.
COMPONENTS = 16
WORDS, EMBEDDED = "words", "embedded"


def parse_texts(value: Any) -> str | None:
    """How texts become numbers: None, ``"words"``, ``"embedded"``, or the source of a language model.

    Raises:
        DataError: it is nothing of these.
    """
    if value is None:
        return None
    return text(str(as_path(value, "texts", DataError)) if not isinstance(value, str) else value, "texts", DataError)


def text_identity(texts: str | None) -> dict[str, Any]:
    """What the numbers of texts depend on, beside the texts, as JSON values.

    Raises:
        LoadError: there is no such language model.
    """
    if texts is None:
        return {}
    if texts == WORDS:
        return {"texts": WORDS}
    return {"texts": texts, "texts_lm": loaded_lm(None if texts == EMBEDDED else texts).fingerprint()}


def encoded_with_texts(data: Dataset, setting: str, encoding: str, texts: str | None) -> np.ndarray:
    """Covariates as numbers, float64 ``[n, p]``: those of ``Dataset.encoded``, then those of texts.

    Args:
        data: the units.
        setting, encoding: see ``Dataset.encoded``.
        texts: see ``parse_texts``; None: texts are left out.

    >>> import pandas as pd
    >>> notes = pd.DataFrame({"note": ["She runs daily", "She never runs", "She runs daily", "She swims"]})
    >>> data = Dataset("a", "0", notes, (), np.array([0, 1, 0, 1]), np.zeros(4), np.zeros((4, 2)), np.zeros(4),
    ...     np.full(4, 0.5), np.arange(4))
    >>> encoded_with_texts(data, "all", "onehot", None).shape, encoded_with_texts(data, "all", "onehot", "words").shape
    ((4, 0), (4, 2))
    """
    plain = data.encoded(setting, encoding)
    if texts is None:
        return plain
    own = [_components(_vectors([str(x) for x in column], texts)) for _, column in data.texts(setting).items()]
    return np.concatenate([plain, *own], axis=1)


def _vectors(said: list[str], texts: str) -> np.ndarray:
    """One vector for each text, float64 ``[n, q]``."""
    distinct, which = np.unique(np.array(said, dtype=object), return_inverse=True)
    if texts == WORDS:
        return _words(distinct.tolist())[which]
    lm = loaded_lm(None if texts == EMBEDDED else texts)
    # An empty text has no tokens, and so no hidden states.
    told = np.array([bool(x.strip()) for x in distinct])
    found = np.zeros((len(distinct), lm.config.width))
    if told.any():
        found[told] = lm.embed(distinct[told].tolist())
    return found[which]


def _words(said: list[str]) -> np.ndarray:
    """TF-IDF of words and pairs of words."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as error:
        raise ImportError(f"texts='words' needs scikit-learn: {install('estimators')}") from error
    try:
        return np.asarray(TfidfVectorizer(ngram_range=(1, 2)).fit_transform(said).todense(), np.float64)
    except ValueError:
        # No text has a word.
        return np.zeros((len(said), 0))


def _components(vectors: np.ndarray) -> np.ndarray:
    """The first principal components, each of variance 1; those that do not vary are left out."""
    if not vectors.size:
        return np.zeros((len(vectors), 0))
    centred = vectors - vectors.mean(0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    kept = np.flatnonzero(sizes > 1e-8 * max(sizes[0], 1.0))[:COMPONENTS]
    # A component's sign is arbitrary; the same everywhere is better.
    signs = np.sign(right[kept, np.abs(right[kept]).argmax(1)])
    return left[:, kept] * signs * np.sqrt(len(vectors))
