"""tools/setup.sh with a system of fakes: what it shows before it installs, whom it asks, what it leaves behind."""

import os
import pty
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
# Of the real system; everything else is a fake, or missing.
REAL = [
    "bash", "cat", "chmod", "cut", "dirname", "env", "grep", "head", "ln", "mkdir", "mktemp", "printf", "rm", "sed", "sha256sum", "tail",
    "tee", "tr",
]
# What apt brings: each is missing until then.
BROUGHT = ["cc", "faketime", "mosquitto", "mosquitto_sub", "node", "npm", "openssl", "systemd-analyze"]

PYTHON = """#!/bin/sh
case "$*" in
  --version) echo "Python 3.13.5" ;;
  "-m venv "*) mkdir -p "$3/bin" "$3/lib/python3.13/site-packages/openpeople/data/curated" && cp "$0" "$3/bin/python" ;;
esac
"""
APT = """#!/bin/sh
echo "apt-get $*" >>"$LOG"
case "$*" in *install*)
  [ ! -e "$POLICY" ] || echo "held back by policy-rc.d" >>"$LOG"
  for name in $BROUGHT; do printf '#!/bin/sh\\nexit 0\\n' >"$BIN/$name" && chmod 755 "$BIN/$name"; done ;;
esac
"""
# With a password: `-n` fails until one was given on the terminal.
SUDO = """#!/bin/sh
case "$1" in
  -n) [ -z "$ASKS" ] || [ -e "$GIVEN" ] || exit 1 ;;
  -v) printf 'password of stranger: ' >/dev/tty; read -r word </dev/tty; [ "$word" = right ] || exit 1; : >"$GIVEN" ;;
esac
case "$1" in -n | -v) exit 0 ;; esac
echo "sudo $1" >>"$LOG"
[ -z "$ASKS" ] || [ -e "$GIVEN" ] || { echo "asked without a word" >>"$LOG"; exit 1; }
exec "$@"
"""


class SetUp(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.top = Path(folder.name)
        self.bin = self.top / "bin"
        self.log = self.top / "log"
        self.policy = self.top / "policy-rc.d"
        (self.top / "tree").mkdir()
        shutil.copytree(TOOLS, self.top / "tree" / "tools")
        script = self.top / "tree/tools/setup.sh"
        text = script.read_text()
        self.assertIn("/usr/sbin/policy-rc.d", text)
        script.write_text(text.replace("/usr/sbin/policy-rc.d", str(self.policy)))
        # env.sh searches where Debian keeps mosquitto: here it would find this machine's.
        env = self.top / "tree/tools/env.sh"
        env.write_text(env.read_text().replace("PATH=$PATH:/usr/sbin\n", ""))
        for name in ["demo/requirements.txt", "tests/judges/requirements.txt", "tests/judges/package.json",
                     "tests/judges/package-lock.json", "tests/judges/home_assistant/requirements-2024.txt",
                     "tests/judges/home_assistant/requirements-2025.txt"]:
            file = self.top / "tree" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("")
        self.bin.mkdir()
        for name in REAL:
            found = shutil.which(name)
            self.assertIsNotNone(found, name)
            (self.bin / name).symlink_to(found)
        self.fake("cp", '#!/bin/sh\nPATH=/usr/bin:/bin exec cp "$@"\n')
        self.fake("cargo", "#!/bin/sh\nexit 1\n")
        self.fake("dpkg", "#!/bin/sh\nexit 0\n")
        self.fake("python3", PYTHON)
        self.fake("apt-get", APT)

    def fake(self, name, text):
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def environment(self, user, asks):
        self.fake("id", f"#!/bin/sh\necho {user}\n")
        return {
            "PATH": str(self.bin), "BIN": str(self.bin), "LOG": str(self.log), "POLICY": str(self.policy),
            "GIVEN": str(self.top / "given"), "ASKS": asks, "BROUGHT": " ".join(BROUGHT),
            "CARGO_TARGET_DIR": str(self.top / "tree/target"),
        }

    def without_terminal(self, user=1000, asks=""):
        """The exit code, what was said, and what was run as root."""
        done = subprocess.run(
            [self.top / "tree/tools/setup.sh", "demo", "judges"], env=self.environment(user, asks),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )
        return done.returncode, done.stdout, self.logged()

    def on_terminal(self, answer):
        child, terminal = pty.fork()
        if child == 0:
            os.execve(self.top / "tree/tools/setup.sh", ["setup.sh", "demo", "judges"], self.environment(1000, "yes"))
        said, answered = b"", False
        while True:
            try:
                more = os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
            said += more
            if not more:
                break
            if b"password of stranger" in said and not answered:
                os.write(terminal, answer + b"\n")
                answered = True
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.decode(), self.logged()

    def logged(self):
        return self.log.read_text() if self.log.exists() else ""

    def assert_announced(self, said):
        for word in ["mosquitto-clients", "faketime", "nodejs", "npm", "broker of the demo", "No service is started"]:
            self.assertIn(word, said)

    # Holds PKG-14.
    def test_sudo_that_asks_for_a_password_asks_after_the_list_of_packages(self):
        self.fake("sudo", SUDO)
        code, said, run = self.on_terminal(b"right")
        self.assertEqual(code, 0, said)
        self.assert_announced(said[: said.index("password of stranger")])
        self.assertIn("apt-get install", run)
        self.assertNotIn("asked without a word", run)

    # Holds PKG-14.
    def test_wrong_password_installs_nothing_and_gives_the_command(self):
        self.fake("sudo", SUDO)
        code, said, run = self.on_terminal(b"wrong")
        self.assertNotEqual(code, 0)
        self.assertIn("sudo apt-get install --no-install-recommends", said)
        self.assertEqual(run, "")

    # Holds PKG-14.
    def test_sudo_that_asks_where_there_is_no_terminal_gives_the_command(self):
        self.fake("sudo", SUDO)
        code, said, run = self.without_terminal(asks="yes")
        self.assertNotEqual(code, 0)
        self.assert_announced(said)
        self.assertRegex(said, "sudo apt-get install --no-install-recommends .*mosquitto-clients")
        self.assertEqual(run, "")

    # Holds PKG-14.
    def test_no_sudo_gives_the_command(self):
        code, said, run = self.without_terminal()
        self.assertNotEqual(code, 0)
        self.assertRegex(said, "As root: apt-get install .*mosquitto-clients")
        self.assertEqual(run, "")

    # Holds PKG-14.
    def test_sudo_without_password_and_root_are_shown_the_list_too(self):
        self.fake("sudo", SUDO)
        for user in (1000, 0):
            with self.subTest(user=user):
                self.log.unlink(missing_ok=True)
                shutil.rmtree(self.top / "tree/target", ignore_errors=True)
                for name in BROUGHT:
                    (self.bin / name).unlink(missing_ok=True)
                code, said, run = self.without_terminal(user)
                self.assertEqual(code, 0, said)
                self.assert_announced(said)
                self.assertEqual("sudo" in run, user != 0, run)

    def test_machine_without_rust_is_told_how_to_get_it(self):
        (self.bin / "cargo").unlink()
        code, said, run = self.without_terminal(user=0)
        self.assertNotEqual(code, 0)
        self.assertIn("rustup.rs", said)
        self.assertEqual(run, "")

    def test_services_are_held_back_while_apt_runs_and_not_afterwards(self):
        self.fake("sudo", SUDO)
        code, said, run = self.without_terminal()
        self.assertEqual(code, 0, said)
        self.assertIn("held back by policy-rc.d", run)
        self.assertFalse(self.policy.exists(), "policy-rc.d was left behind: no service would start any more")

    def test_packages_that_apt_does_not_bring_end_it(self):
        self.fake("sudo", SUDO)
        self.fake("apt-get", '#!/bin/sh\necho "apt-get $*" >>"$LOG"\n')
        code, said, _ = self.without_terminal()
        self.assertNotEqual(code, 0)
        self.assertIn("still not found", said)

    def test_people_of_the_demo_are_found_after_the_folder_was_moved(self):
        self.fake("sudo", SUDO)
        code, said, _ = self.without_terminal()
        self.assertEqual(code, 0, said)
        (self.top / "tree").rename(self.top / "moved")
        self.assertTrue((self.top / "moved/target/openpeople/curated").is_dir())


if __name__ == "__main__":
    unittest.main()
