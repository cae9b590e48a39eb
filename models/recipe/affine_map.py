"""Mappings between embedding spaces: an affine map that turns one network's embeddings into another's.

Networks trained apart for one task differ by little more than a linear map (McNeely-White et al. 2022, "Canonical Face
Embeddings"). The file that the daemon reads: the matrix row by row, then the offset, float32, little-endian.
"""

import numpy as np


def encode(matrix: np.ndarray, offset: np.ndarray) -> bytes:
    """`matrix`: target by source; `offset`: target."""
    if matrix.ndim != 2 or offset.shape != matrix.shape[:1]:
        raise ValueError(f"a matrix of {matrix.shape} and an offset of {offset.shape}")
    return matrix.astype("<f4").tobytes() + offset.astype("<f4").tobytes()


def decode(data: bytes, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset of a file; `columns`: dimensions of the source."""
    values = np.frombuffer(data, "<f4").astype(np.float64)
    rows = len(values) // (columns + 1)
    return values[: rows * columns].reshape(rows, columns), values[rows * columns :]


def fit(source: np.ndarray, target: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """The affine map with the least squared error, its matrix held small by `ridge` (in mean squared lengths of a look).

    `source`, `target`: one unit embedding in a row, of the same pictures.
    """
    centre, aim = source.mean(0), target.mean(0)
    x, y = source - centre, target - aim
    gram = x.T @ x + ridge * len(x) / x.shape[1] * np.mean((x**2).sum(1)) * np.eye(x.shape[1])
    matrix = np.linalg.solve(gram, x.T @ y).T
    return matrix, aim - matrix @ centre


def apply(looks: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    mapped = looks @ matrix.T + offset
    return mapped / np.linalg.norm(mapped, axis=1, keepdims=True)
