"""A page that answers in a browser, with no server: a folder, or one file."""

import base64
import hashlib
import json
import lzma
import re
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
PAGE: Final = HERE / "page"
"""The form, which the server has too."""


def write_page(folder: Path) -> None:
    """Write the page beside a model."""
    home = HERE / "browser"
    for path in (*PAGE.iterdir(), home / "ask.mjs", *(home / "vendor").iterdir()):
        content = path.read_bytes()
        if path.suffix == ".xz":  # WebAssembly, 14 MB in 2
            content = lzma.decompress(content)
        (folder / path.name.removesuffix(".xz")).write_bytes(content)


def single_file(folder: Path, out: Path) -> None:
    """Write the page in a folder as one file, which opens with the network off."""
    found = {path.name: path.read_bytes() for path in folder.glob("*.*")}
    urls, data = {}, ""
    for name, content in found.items():
        code = found[name] = content.replace(b'from "./', b'from "')
        if name.endswith(".mjs"):
            urls[name] = f"data:text/javascript;base64,{_coded(code)}"
        elif name.endswith((".json", ".onnx", ".wasm")):
            data += f'<script type="text/plain" id="{name}">{_coded(content)}</script>'
    parts = {
        "style": found["page.css"].decode(),
        'script type="importmap"': json.dumps({"imports": urls}),
        'script type="module"': found["page.mjs"].decode(),
    }
    hashes = (hashlib.sha256(text.encode()).digest() for text in parts.values())
    allowed = " ".join(f"'sha256-{_coded(digest)}'" for digest in hashes)
    policy = f"default-src 'none'; style-src {allowed}; base-uri 'none'; script-src "
    policy += f"{allowed} data: 'wasm-unsafe-eval'"  # it may run what it holds, no more
    head = "".join(f"<{tag}>{text}</{tag.split()[0]}>" for tag, text in parts.items())
    first, last = re.split(r"<link.*?</head>", found["index.html"].decode(), flags=re.S)
    first = re.sub(r'(Policy" content=)"[^"]*"', rf'\1"{policy}"', first)
    out.write_text(f"{first}{data}{head}</head>{last}", "utf-8")


def _coded(content: bytes) -> str:
    return base64.b64encode(content).decode()
