"""The package's metadata lives in settings.ini; this file only hands it to setuptools."""
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

HERE = Path(__file__).parent
settings = ConfigParser(delimiters=["="], interpolation=None)
settings.read(HERE / "settings.ini", encoding="utf-8")
cfg = settings["DEFAULT"]
readme = HERE / "README.md"

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else cfg["description"],
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=f"https://github.com/{cfg['user']}/{cfg['repo']}",
    license="Apache-2.0",
    keywords=cfg["keywords"],
    packages=find_packages(include=["z1", "z1.*"]),
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require={key.removesuffix("_requirements"): value.split()
                    for key, value in cfg.items() if key.endswith("_requirements")},
    entry_points={"vllm.logits_processors": ["z1_window = z1.vllm_window:WindowProcessor"],
                  "vllm.general_plugins": ["z1_end = z1.serving.processes:die_with_parent",
                                           "z1_requests = z1.serving.vllm:guard_requests"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Natural Language :: English",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
    ],
    zip_safe=False,
)
