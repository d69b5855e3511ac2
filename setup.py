"""Installs humanbody from settings.ini, the one place where names and versions are written."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="], interpolation=None)
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    license="Apache-2.0",
    keywords=cfg["keywords"],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=["humanbody", "humanbody.*"]),
    include_package_data=True,
    package_data={"humanbody": ["assets/*", "assets/**/*", "py.typed"]},
    install_requires=cfg["requirements"].split(),
    extras_require={
        "dev": cfg["dev_requirements"].split() + cfg["mocap_requirements"].split()
        + cfg["data_requirements"].split() + cfg["sam_requirements"].split()
        + cfg["onnx_requirements"].split(),
        "mocap": cfg["mocap_requirements"].split(),
        "data": cfg["data_requirements"].split(),
        "sam": cfg["sam_requirements"].split(),
        "onnx": cfg["onnx_requirements"].split(),
        "tables": cfg["tables_requirements"].split(),
        "body": cfg["body_requirements"].split(),
    },
    entry_points={"nbdev": ["humanbody=humanbody._modidx:d"]},
    zip_safe=False,
)
