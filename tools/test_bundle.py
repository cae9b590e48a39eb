"""tools/bundle.sh: whoever builds or packs a bundle sees which networks are in it."""

import subprocess
import tempfile
import unittest
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent / "bundle.sh"
WITHOUT = '[detector]\ndecoder = "centerface"\n'
WITH = '[detector]\ndecoder = "yunet"\n[[liveness]]\nfile = "live.onnx"\n'


class Bundle(unittest.TestCase):
    def said(self, manifest, before=""):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "bundle.toml").write_text(manifest)
            return subprocess.run([PROGRAM, folder, before], check=True, capture_output=True, text=True).stdout

    def test_detector_and_liveness_are_named(self):
        self.assertRegex(self.said(WITH), "detector: YuNet; liveness networks: yes")
        self.assertRegex(self.said(WITHOUT), "detector: CenterFace; liveness networks: NONE")

    def test_rebuild_that_lost_networks_says_so_loudly(self):
        before = self.said(WITH).strip()
        self.assertIn("OTHER NETWORKS", self.said(WITHOUT, before))
        self.assertNotIn("OTHER NETWORKS", self.said(WITH, before))
        self.assertNotIn("OTHER NETWORKS", self.said(WITHOUT))

    def test_recipe_names_detectors_as_this_reads_them(self):
        recipe = PROGRAM.parent.parent / "models/bundle"
        for kind, name in [("yunet", "YuNet"), ("centerface", "CenterFace")]:
            text = (recipe / f"detector-{kind}.toml").read_text()
            self.assertIn(f"detector: {name};", self.said(text))
        self.assertIn("yes", self.said((recipe / "liveness.toml").read_text()))


if __name__ == "__main__":
    unittest.main()
