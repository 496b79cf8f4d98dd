"""Writes frames as a video: mp4 by ffmpeg where imageio-ffmpeg is installed, GIF by Pillow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from .acting import VIDEO_CURE

GIF_RATE = 25
"""Frames a second that a GIF keeps at most."""


class Writer(Protocol):
    """Takes the frames of a video, one by one."""

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Adds a frame, (height, width, 3)."""

    def finish(self, path: Path) -> None:
        """Completes the file."""

    def discard(self) -> None:
        """Ends without a file."""


def usual_suffix() -> str:
    """.mp4 where it can be written, else .gif."""
    return ".gif" if find_spec("imageio_ffmpeg") is None else ".mp4"


def check_path(path: Path) -> None:
    """Checks, before anything is played, that a video can be written.

    Raises:
        ValueError: The suffix is neither .mp4 nor .gif, or the package for it is missing.
    """
    packages = {".mp4": ("imageio_ffmpeg", "imageio-ffmpeg"), ".gif": ("PIL", "Pillow")}
    if path.suffix not in packages:
        raise ValueError(f"{path} is no video: end its name in .mp4 or .gif")
    module, package = packages[path.suffix]
    if find_spec(module) is None:
        other = "; a name in .gif does without" if path.suffix == ".mp4" else ""
        raise ValueError(f"{path} needs {package}, which is missing: {VIDEO_CURE}{other}")


@contextlib.contextmanager
def video(path: Path, rate: float) -> Iterator[Writer]:
    """Writes a video while the block runs; the file appears when it is whole.

    Args:
        path: The file, .mp4 or .gif.
        rate: Frames a second.

    Raises:
        ValueError: It cannot be written; see `check_path`.
    """
    check_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.new{path.suffix}")
    writer: Writer = _Mp4(temporary, rate) if path.suffix == ".mp4" else _Gif(temporary, rate)
    try:
        yield writer
        writer.finish(path)
    finally:
        writer.discard()
        temporary.unlink(missing_ok=True)


class _Mp4:
    """Streams frames to ffmpeg: H.264 in a form that browsers play."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._stream: Any = None

    def add(self, frame: NDArray[np.uint8]) -> None:
        even = np.ascontiguousarray(frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2])
        if self._stream is None:
            from imageio_ffmpeg import write_frames

            self._stream = write_frames(
                str(self.path),
                (even.shape[1], even.shape[0]),
                fps=self.rate,
                codec="libx264",
                pix_fmt_out="yuv420p",
                macro_block_size=2,
                ffmpeg_log_level="error",
                output_params=["-movflags", "+faststart"],
            )
            self._stream.send(None)
        self._stream.send(even)

    def finish(self, path: Path) -> None:
        if self._stream is not None:
            self._stream.close()
            self.path.replace(path)

    def discard(self) -> None:
        if self._stream is not None:
            self._stream.close()


class _Gif:
    """Keeps frames in few colours, and not more of them a second than needed."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path = path
        self._every = max(1, int(-(-rate // GIF_RATE)))
        self._milliseconds = 1000 * self._every / rate
        self._seen = 0
        self._frames: list[Any] = []

    def add(self, frame: NDArray[np.uint8]) -> None:
        if self._seen % self._every == 0:
            from PIL import Image

            self._frames.append(Image.fromarray(frame).quantize(64))
        self._seen += 1

    def finish(self, path: Path) -> None:
        if self._frames:
            first, *others = self._frames
            milliseconds = round(self._milliseconds)
            first.save(
                self.path, save_all=True, append_images=others, duration=milliseconds, loop=0
            )
            self.path.replace(path)

    def discard(self) -> None:
        self._frames.clear()


def frame_of(env: gym.Env[Any, Any]) -> NDArray[np.uint8]:
    """The picture that an environment shows, (height, width, 3).

    Raises:
        ValueError: It shows none; says what may help.
        DependencyNotInstalled: A package is missing for it.
    """
    try:
        picture = np.asarray(env.render())
    except gym.error.DependencyNotInstalled:
        raise
    except Exception as error:  # graphics libraries raise their own
        raise ValueError(
            f"the environment cannot be drawn here ({type(error).__name__}: {error}); without a "
            "display MuJoCo draws where MUJOCO_GL=egl or MUJOCO_GL=osmesa is set and works"
        ) from error
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"the environment renders {picture.shape}, no picture in three colours")
    return picture.astype(np.uint8)
