import re
from pathlib import Path
from typing import Any

import projections


def test_the_examples_of_the_readme_run(tmp_path: Path) -> None:
    """All Python blocks, one after the other."""
    text = (Path(projections.__file__).parent / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) > 4
    namespace: dict[str, Any] = {"__name__": "readme", "directory": str(tmp_path)}
    try:
        for block in blocks:
            exec(compile(block, "README.md", "exec"), namespace)
    finally:
        for opened in ("history", "state"):
            if opened in namespace:
                namespace[opened].close()
