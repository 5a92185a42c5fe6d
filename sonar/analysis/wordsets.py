"""Sets of words, one a row: the users, commands and hosts of jobs. Each set is kept once, as a text for Arrow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sonar.analysis.exact import ranges

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["WordSets", "joined_texts", "words_of"]

_BETWEEN = "\x1f"  # words; one that has it, or the mark of this, is written otherwise
_MARK = "\x1e"


@dataclass(frozen=True, slots=True)
class WordSets:
    """For each row a set of words, in byte order: codes into the texts of the sets that there are."""

    codes: np.ndarray
    texts: "pa.Array[Any]"

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        values = self.values
        return (values[code] for code in self.codes.tolist())

    def __getitem__(self, row: int) -> tuple[str, ...]:
        text: Any = self.texts[int(self.codes[row])].as_py()
        return words_of(text)

    @property
    def values(self) -> list[tuple[str, ...]]:
        """The sets that there are."""
        texts: list[Any] = self.texts.to_pylist()
        return [words_of(text) for text in texts]

    def take(self, rows: np.ndarray) -> "WordSets":
        """Return the rows of a mask or in the order of an index."""
        return WordSets(self.codes[rows], self.texts)

    def listed(self) -> "pa.Array[Any]":
        """Return the sets that there are with commas between their words."""
        import pyarrow.compute as pc

        kernels: Any = pc
        if kernels.any(kernels.match_substring(self.texts, _MARK)).as_py():
            import pyarrow as pa

            return pa.array([",".join(words) for words in self.values], pa.string())
        texts: pa.Array[Any] = kernels.replace_substring(self.texts, _BETWEEN, ",")
        return texts

    def with_word(self, *, containing: str = "", starting: str = "") -> np.ndarray:
        """Return which of the sets that there are have a word with a text in it, or at its start."""
        import pyarrow.compute as pc

        kernels: Any = pc
        if containing:
            found = kernels.match_substring(self.texts, containing)
        else:
            found = kernels.or_(
                kernels.starts_with(self.texts, starting), kernels.match_substring(self.texts, _BETWEEN + starting)
            )
        truths: np.ndarray = found.to_numpy(zero_copy_only=False).astype(bool)
        return truths

    @classmethod
    def of_words(cls, codes: np.ndarray, words: Sequence[str]) -> "WordSets":
        """Return sets of one word each."""
        return cls(codes, _texts(words))

    @classmethod
    def of_groups(cls, group: np.ndarray, code: np.ndarray, words: list[str], wanted: np.ndarray) -> "WordSets":
        """Return the distinct words of each wanted group, from pairs of group and code; `wanted` is ascending."""
        import pyarrow as pa
        import pyarrow.compute as pc

        size = max(len(words), 1)
        pairs = np.unique(group * size + code)
        groups, codes = np.divmod(pairs, size)
        first = np.searchsorted(groups, wanted)
        number = np.searchsorted(groups, wanted, "right") - first
        texts = _texts(words)
        result = codes[first] if len(codes) else first
        several = np.flatnonzero(number > 1)
        if len(several):
            members = texts.take(pa.array(codes[ranges(first[several], number[several])]))
            kernels: Any = pc
            lists = pa.ListArray.from_arrays(pa.array(np.append(0, np.cumsum(number[several])), pa.int32()), members)
            coded = kernels.binary_join(lists, _BETWEEN).dictionary_encode()
            result[several] = len(texts) + coded.indices.to_numpy()
            texts = pa.concat_arrays([texts, coded.dictionary])
        return cls(result, texts)

    @classmethod
    def together(cls, parts: "Sequence[WordSets]") -> "WordSets":
        """Return the rows of all parts."""
        texts, places = joined_texts([part.texts for part in parts])
        return cls(np.concatenate([place[part.codes] for place, part in zip(places, parts, strict=True)]), texts)


def _texts(words: Sequence[str]) -> "pa.Array[Any]":
    """Return the texts of sets of one word each."""
    import pyarrow as pa

    return pa.array([_marked(word) if _MARK in word or _BETWEEN in word else word for word in words], pa.string())


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a set by its text."""
    words = text.split(_BETWEEN)
    if _MARK in text:
        words = [word.replace(f"{_MARK}1", _BETWEEN).replace(f"{_MARK}0", _MARK) for word in words]
    return tuple(words)


def joined_texts(parts: "Sequence[pa.Array[Any]]") -> "tuple[pa.Array[Any], list[np.ndarray]]":
    """Return the distinct texts of all parts, and for each part the place of each of its texts there."""
    import pyarrow as pa

    coded: Any = pa.concat_arrays(parts).dictionary_encode() if parts else pa.array([], pa.string()).dictionary_encode()
    ends = np.cumsum([len(part) for part in parts])[:-1]
    places = np.split(coded.indices.to_numpy(), ends) if parts else []
    return coded.dictionary, [place if len(place) else np.zeros(1, np.int32) for place in places]


def _marked(word: str) -> str:
    return word.replace(_MARK, f"{_MARK}0").replace(_BETWEEN, f"{_MARK}1")
