"""Install the package from its sources into the environment that runs this, without the extension.

What an editable install leaves behind (a path, the metadata, the command), written by hand, because
the build backend cannot make it without a Rust toolchain. `pip uninstall featureplane` removes it.
"""

import sys
import sysconfig
import tomllib
from pathlib import Path

root = Path(__file__).resolve().parents[1]
site = Path(sysconfig.get_path("purelib"))
project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
name, version = project["name"], project["version"]

metadata = [
    "Metadata-Version: 2.4",
    f"Name: {name}",
    f"Version: {version}",
    f"Summary: {project['description']}",
    f"Requires-Python: {project['requires-python']}",
    *(f"Requires-Dist: {requirement}" for requirement in project["dependencies"]),
]
for extra, requirements in project["optional-dependencies"].items():
    metadata.append(f"Provides-Extra: {extra}")
    metadata += [f"Requires-Dist: {requirement} ; extra == '{extra}'" for requirement in requirements]

command = Path(sys.executable).parent / name
info = site / f"{name}-{version}.dist-info"
files = {
    site / f"{name}.pth": f"{root / 'src'}\n",
    info / "METADATA": "\n".join(metadata) + "\n",
    info / "INSTALLER": "featureplane\n",
    info / "entry_points.txt": f"[console_scripts]\n{name} = {project['scripts'][name]}\n",
    command: f"#!{sys.executable}\nimport sys\nfrom featureplane.cli import main\nsys.exit(main())\n",
}
info.mkdir(exist_ok=True)
for path, text in files.items():
    path.write_text(text, encoding="utf-8")
command.chmod(0o755)
record = [*files, info / "RECORD"]
(info / "RECORD").write_text("".join(f"{path},,\n" for path in record), encoding="utf-8")
