"""A small folder to upload to the loopback Hub, and what of it is there again."""

from pathlib import Path

import huggingface_hub

WEIGHTS = bytes(range(256)) * 400
CARD = "---\nlicense: apache-2.0\nlanguage:\n- en\npipeline_tag: text-classification\n---\n# A card\n"
NAME = "org/model"


def save_folder(top: Path) -> Path:
    """Save large and small files, two of them below another folder, and an empty one."""
    (top / "fold-0").mkdir(parents=True)
    (top / "README.md").write_text(CARD)
    (top / "fold-0" / "adapter_config.json").write_text('{"r": 8}')
    (top / "fold-0" / "adapter_model.safetensors").write_bytes(WEIGHTS)
    (top / "empty.safetensors").write_bytes(b"")
    return top


def contents(folder: Path) -> dict[str, bytes]:
    """Files of a folder by path, without what the client or git adds."""
    found = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return {name: body for name, body in found.items() if not name.startswith((".cache/", ".gitattributes"))}


def uploaded(folder: Path, **more) -> str:
    """Create the repository and upload the folder; returns the commit's id."""
    huggingface_hub.create_repo(NAME, exist_ok=True)
    return huggingface_hub.upload_folder(repo_id=NAME, folder_path=folder, **more).oid
