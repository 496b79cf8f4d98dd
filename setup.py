"""Build the native kernels where a C compiler is at hand; setup.cfg holds everything else."""

import platform
import runpy
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FOLDER = Path("decision_policies", "ops", "native")
FLAGS = [
    "-std=c11",
    "-O3",
    "-g0",
    "-fPIC",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
]
AVX512 = ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mfma"]
SETS = {"baseline": []}
if platform.machine() in ("x86_64", "AMD64"):
    SETS |= {"avx2": ["-mavx2", "-mfma"], "avx512": AVX512}


class BuildLibrary(build_ext):
    """Compile the kernels once for each instruction set, and link one plain shared library."""

    def get_ext_filename(self, fullname: str) -> str:
        """Name the library without Python's version: it knows nothing of Python."""
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def build_extension(self, ext: Extension) -> None:
        """Build the library, or let `optional` turn what went wrong into a warning."""
        digest = runpy.run_path(str(FOLDER / "library.py"))["source_digest"](FOLDER)
        jobs = [
            (kernel, name, ("ISA", name), flags)
            for kernel in ("scan.c", "step.c")
            for name, flags in SETS.items()
        ]
        jobs.append(("library.c", "", ("SOURCE_DIGEST", f'"{digest}"'), []))
        objects = []
        for source, folder, macro, flags in jobs:
            objects += self.compiler.compile(
                [str(FOLDER / source)],
                output_dir=str(Path(self.build_temp, folder)),
                macros=[macro],
                extra_postargs=[*FLAGS, *flags],
                depends=ext.depends,
            )
        self.compiler.link_shared_object(objects, self.get_ext_fullpath(ext.name))


class Wheel(bdist_wheel):
    """A wheel for every Python 3 of a platform; for every platform where nothing was built."""

    def get_tag(self) -> tuple[str, str, str]:
        """Give the tag by what was built."""
        built = Path(self.bdist_dir, FOLDER, "kernels.so").exists()
        return ("py3", "none", super().get_tag()[2] if built else "any")


setup(
    ext_modules=[
        Extension(
            "decision_policies.ops.native.kernels",
            sources=[str(path) for path in sorted(FOLDER.glob("*.c"))],
            depends=[str(path) for path in sorted(FOLDER.glob("*.[ch]"))],
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": Wheel},
)
