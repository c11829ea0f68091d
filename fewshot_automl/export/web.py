"""A page that answers in a browser, with no server: a folder, or one file."""

import base64
import hashlib
import json
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


def write_page(folder: Path) -> None:
    """Write the page beside a model."""
    home = HERE / "browser"
    known = {
        name: digest for digest, name in map(str.split, VENDORED.split("\n")[1:-1])
    }
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
    found = {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()
    }
    code = {
        name: re.sub(rb'from "\./', b'from "', content)
        for name, content in found.items()
    }
    modules = [name for name in found if name.endswith(".mjs") and name != "page.mjs"]
    urls = {
        name: f"data:text/javascript;base64,{_coded(code[name])}" for name in modules
    }
    parts = {
        "style": found["page.css"].decode(),
        'script type="importmap"': json.dumps({"imports": urls}),
        'script type="module"': code["page.mjs"].decode(),
    }
    hashes = (hashlib.sha256(text.encode()).digest() for text in parts.values())
    allowed = " ".join(f"'sha256-{_coded(digest)}'" for digest in hashes)
    policy = f"default-src 'none'; style-src {allowed}; base-uri 'none'; script-src "
    policy += f"{allowed} data: 'wasm-unsafe-eval'"  # it may run what it holds, no more
    page = found["index.html"].decode()
    page = re.sub(r'(Policy" content=)"[^"]*"', rf'\1"{policy}"', page)
    head = "".join(f"<{tag}>{text}</{tag.split()[0]}>" for tag, text in parts.items())
    held = [name for name in found if name.endswith((".json", ".onnx", ".wasm"))]
    data = (
        f'<script type="text/plain" id="{x}">{_coded(found[x])}</script>' for x in held
    )
    page = re.sub(
        r"<link.*?</head>", lambda _: "".join(data) + head + "</head>", page, flags=re.S
    )
    out.write_text(page, "utf-8")


def _coded(content: bytes) -> str:
    return base64.b64encode(content).decode()
