"""Films of flights: animated GIFs for pages, MP4 for everything else."""

from __future__ import annotations

import io
import math
import os
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

__all__ = ["SUFFIXES", "Recorder"]

SUFFIXES = (".gif", ".mp4")
INSTALL = 'pip install "llm-gym-autopilot[render]"'
GIF_COLORS = 128
UNCHANGED = 255  # palette entry of pixels that stay as they were
FASTEST_GIF = 50.0  # browsers slow down what asks for more

Picture = NDArray[np.uint8]


class Recorder:
    """Writes pictures to a film, one after the other.

    ```python
    with Recorder("flight.gif", fps=5) as film:
        film.write(env.render())
    ```

    The film appears under its name when the block ends, also if an error or Ctrl-C ends it: then
    with the pictures so far. Without any picture nothing is written, and an older film stays.

    Args:
        path: The film; its suffix, .gif or .mp4, says which kind. Directories are made.
        fps: Pictures per second.

    Attributes:
        num_frames: Pictures written so far.

    Raises:
        ValueError: Another suffix, or `fps` is not positive, not finite or too fast for a GIF.
        gymnasium.error.DependencyNotInstalled: The library that writes the format is missing.
    """

    def __init__(self, path: str | Path, fps: float = 5.0) -> None:
        self._path = Path(path)
        suffix = self._path.suffix.lower()
        if suffix not in SUFFIXES:
            raise ValueError(f"path={str(path)!r} must end in {' or '.join(SUFFIXES)}")
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"fps={fps} must be a positive number of pictures per second")
        if suffix == ".gif" and fps > FASTEST_GIF:
            raise ValueError(
                f"fps={fps:g} is too fast for a GIF (at most {FASTEST_GIF:g}): use .mp4"
            )
        self._fps = fps
        self._kind = _GifWriter if suffix == ".gif" else _Mp4Writer
        self._kind.check()
        # In the same directory, because a rename is atomic only within one file system; with the
        # same suffix, because ffmpeg chooses its format by it.
        self._temporary = self._path.with_name(f".{self._path.stem}.{uuid.uuid4().hex[:8]}{suffix}")
        self._writer: _Writer | None = None
        self._shape: tuple[int, ...] = ()
        self.num_frames = 0

    @property
    def path(self) -> Path:
        """Where the film is, once it is finished."""
        return self._path

    @property
    def megabytes(self) -> float:
        """Size of the finished film."""
        return self._path.stat().st_size / 1e6

    def __enter__(self) -> Recorder:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def write(self, picture: Picture) -> None:
        """Adds a picture.

        Args:
            picture: uint8 `(height, width, 3)`, of the same shape as those before.

        Raises:
            ValueError: Another shape or dtype.
            OSError: The film cannot be written.
        """
        shape = picture.shape
        if picture.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3:
            raise ValueError(
                f"picture must be uint8 (height, width, 3), got {picture.dtype} {shape}"
            )
        if self._writer is None:
            self._shape = shape
            self._writer = self._kind(self._temporary, shape[1], shape[0], self._fps)
        elif shape != self._shape:
            raise ValueError(f"picture is {shape}, but the film has pictures of {self._shape}")
        self._writer.write(np.ascontiguousarray(picture))
        self.num_frames += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
                if self.num_frames:
                    os.replace(self._temporary, self._path)
        finally:
            self._writer = None
            self._temporary.unlink(missing_ok=True)


class _Writer(Protocol):
    def __init__(self, path: Path, width: int, height: int, fps: float) -> None: ...

    @staticmethod
    def check() -> None: ...

    def write(self, picture: Picture) -> None: ...

    def close(self) -> None: ...


class _Mp4Writer:
    """H.264 by the ffmpeg that imageio-ffmpeg brings along."""

    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        import imageio_ffmpeg

        self._frames = imageio_ffmpeg.write_frames(
            path,
            (width, height),
            fps=fps,
            quality=8,
            macro_block_size=2,  # its default of 16 would stretch the picture
            output_params=["-movflags", "+faststart"],  # plays while a browser still loads it
        )
        self._frames.send(None)

    @staticmethod
    def check() -> None:
        try:
            import imageio_ffmpeg  # noqa: F401
        except ImportError as error:
            raise DependencyNotInstalled(f"writing .mp4 needs imageio-ffmpeg: {INSTALL}") from error

    def write(self, picture: Picture) -> None:
        self._frames.send(picture)

    def close(self) -> None:
        self._frames.close()


class _GifWriter:
    """A GIF whose pictures hold only the pixels that changed, which makes them a third of the size.

    Pillow would keep all pictures until the end; here each is written as it comes, so that memory
    does not grow with the flight. A GIF is a header followed by the blocks of its pictures, so the
    blocks of one-picture files with the same palette make up one film.
    """

    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        self._file = open(path, "wb")  # noqa: SIM115 -- closed in close()
        self._milliseconds = round(100 / fps) * 10
        self._palette: Any = None
        self._colors: list[int] = []
        self._before: Picture | None = None

    @staticmethod
    def check() -> None:
        try:
            import PIL.Image  # noqa: F401
        except ImportError as error:
            raise DependencyNotInstalled(f"writing .gif needs pillow: {INSTALL}") from error

    def write(self, picture: Picture) -> None:
        from PIL import Image

        image = Image.fromarray(picture)
        if self._palette is None:
            self._palette = image.quantize(GIF_COLORS, method=Image.Quantize.FASTOCTREE)
            self._colors = self._palette.getpalette()[: 3 * GIF_COLORS]
            self._colors += [0] * (3 * 256 - len(self._colors))
        quantized = image.quantize(palette=self._palette, dither=Image.Dither.NONE)
        indices = np.asarray(quantized, dtype=np.uint8)  # (height, width)
        first = self._before is None
        changed = indices if first else np.where(indices == self._before, UNCHANGED, indices)
        self._before = indices
        frame = Image.fromarray(changed.astype(np.uint8))
        frame.putpalette(self._colors)
        content = io.BytesIO()
        frame.save(
            content,
            "GIF",
            optimize=False,  # would renumber the palette
            transparency=UNCHANGED,
            disposal=1,  # the picture before stays under the transparent pixels
            duration=self._milliseconds,
            **({"loop": 0} if first else {}),
        )
        whole = content.getvalue()
        self._file.write(whole[0 if first else _gif_header_size(whole) : -1])

    def close(self) -> None:
        self._file.write(b";")  # the end of a GIF
        self._file.close()


def _gif_header_size(content: bytes) -> int:
    """Bytes before the first block of a GIF: signature, screen descriptor and global palette."""
    flags = content[10]
    return 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
