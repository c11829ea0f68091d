"""A page that answers in a browser, with no server: a folder, or one file."""

import base64
import hashlib
import lzma
import re
from pathlib import Path
from typing import Final

from fewshot_automl.errors import ExportError

HERE: Final = Path(__file__).parent
PAGE: Final = HERE / "page"
"""The form, which the server has too."""
VENDORED: Final = """
11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90 ort.wasm.bundle.min.mjs
258e46332101335ce8d95aed7745b19ac3b46d37f3e159a89cf894c2ea9b1d3a tokenizers.min.mjs
3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2 ort-wasm-simd-threaded.wasm
"""  # noqa: E501
"""sha256 of files of npm's onnxruntime-web 1.30.0 and @huggingface/tokenizers 0.2.0;
the WebAssembly, of 14 MB, is kept packed in 2."""
POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src blob:; "
    "script-src 'unsafe-inline' 'wasm-unsafe-eval' data:; base-uri 'none'"
)
"""What the single file may do: run what it holds, fetch nothing."""


def write_page(folder: Path) -> None:
    """Write the page beside a model."""
    home = HERE / "browser"
    known = {name: digest for digest, name in map(str.split, VENDORED.split("\n")[1:-1])}
    for path in (*PAGE.iterdir(), home / "ask.mjs", *(home / "vendor").iterdir()):
        content, name = path.read_bytes(), path.name.removesuffix(".xz")
        if path.suffix == ".xz":
            content = lzma.decompress(content)
        digest = hashlib.sha256(content).hexdigest()
        if known.get(name, digest) != digest:
            raise ExportError(f"{name} was changed. Install this package again.")
        (folder / name).write_bytes(content)


def single_file(folder: Path, out: Path) -> None:
    """Write the page in a folder as one file, which opens with the network off."""
    def coded(path: Path) -> str:
        text = re.sub(rb'from "\./', b'from "', path.read_bytes())
        return base64.b64encode(text).decode()

    page = (folder / "index.html").read_text("utf-8")
    ...
