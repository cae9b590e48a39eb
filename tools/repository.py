#!/usr/bin/env python3
"""The publisher's side of model updates: a TUF repository made and signed by python-tuf (docs/updates.md).

  repository.py REPOSITORY KEYS create [--days N]
  repository.py REPOSITORY KEYS add BUNDLE [--percent P] [--group NAME]... [--not-before TIME]
                                 [--minimum-daemon VERSION]
  repository.py REPOSITORY KEYS rollout TARGET [--percent P] [--group NAME]... [--all-groups] [--not-before TIME]
  repository.py REPOSITORY KEYS withdraw TARGET
  repository.py REPOSITORY KEYS renew [--days N]
  repository.py REPOSITORY KEYS rotate root|timestamp|snapshot|targets [--days N]

REPOSITORY is a folder with metadata/ and targets/ below it, to be served as it is. KEYS holds one Ed25519 key
for each role, made by `create`; `root.pem` is needed by `create` and `rotate` alone and lies on a medium of its
own otherwise. A bundle is a folder signed by `familiar model sign`; its own signature is not looked at here.
"""

import argparse
import base64
import json
import os
import sys
import tarfile
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

ROLES = {"root": Root, "timestamp": Timestamp, "snapshot": Snapshot, "targets": Targets}
# How long metadata holds, in days, where --days says nothing: a device refuses what is older.
DAYS = {"root": 365, "targets": 90, "snapshot": 30, "timestamp": 7}


class Keys:
    def __init__(self, folder):
        self.folder = folder

    def make(self, role):
        signer = CryptoSigner.generate_ed25519()
        path = self.folder / f"{role}.pem"
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(signer.private_bytes)
        return signer, temporary, path

    def signer(self, role):
        pem = (self.folder / f"{role}.pem").read_bytes()
        return CryptoSigner(load_pem_private_key(pem, None))


class Repository:
    def __init__(self, folder, keys, days=None):
        self.metadata, self.targets, self.keys = folder / "metadata", folder / "targets", keys
        self.days = days

    def expires(self, role):
        days = DAYS[role] if self.days is None else self.days
        return (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)

    def newest(self, role):
        if role == "timestamp":
            return Metadata.from_file(str(self.metadata / "timestamp.json"))
        files = self.metadata.glob(f"*.{role}.json")
        return Metadata.from_file(str(max(files, key=lambda path: int(path.name.split(".")[0]))))

    def write(self, role, metadata, signers):
        metadata.signatures.clear()
        for signer in signers:
            metadata.sign(signer, append=True)
        name = "timestamp.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json"
        path = self.metadata / name
        temporary = path.with_suffix(".new")
        temporary.write_bytes(metadata.to_bytes(JSONSerializer()))
        temporary.replace(path)

    def publish(self, role, metadata):
        """Signs the next version of a role; the timestamp, which makes it seen, comes last."""
        metadata.signed.version += 1
        metadata.signed.expires = self.expires(role)
        self.write(role, metadata, [self.keys.signer(role)])

    def publish_targets(self, targets):
        self.publish("targets", targets)
        self.publish_snapshot(targets.signed.version)

    def publish_snapshot(self, targets=None):
        snapshot = self.newest("snapshot")
        if targets:
            snapshot.signed.meta["targets.json"] = MetaFile(targets)
        self.publish("snapshot", snapshot)
        timestamp = self.newest("timestamp")
        timestamp.signed.snapshot_meta = MetaFile(snapshot.signed.version)
        self.publish("timestamp", timestamp)

    def create(self):
        for folder in (self.metadata, self.targets, self.keys.folder):
            folder.mkdir(parents=True, exist_ok=False)
        self.keys.folder.chmod(0o700)
        root = Metadata(Root(expires=self.expires("root"), consistent_snapshot=True))
        for role in ROLES:
            signer, temporary, path = self.keys.make(role)
            root.signed.add_key(signer.public_key, role)
            temporary.replace(path)
        self.write("root", root, [self.keys.signer("root")])
        for role in ("targets", "snapshot", "timestamp"):
            metadata = Metadata(ROLES[role](expires=self.expires(role)))
            self.write(role, metadata, [self.keys.signer(role)])
        print(f"give devices {self.metadata / '1.root.json'} as root.json", file=sys.stderr)

    def rotate(self, role):
        root = self.newest("root")
        old = self.keys.signer("root")
        signer, temporary, path = self.keys.make(role)
        for key in list(root.signed.roles[role].keyids):
            root.signed.revoke_key(key, role)
        root.signed.add_key(signer.public_key, role)
        root.signed.version += 1
        root.signed.expires = self.expires("root")
        # The old root's key vouches for the new one.
        self.write("root", root, [old, signer] if role == "root" else [old])
        temporary.replace(path)
        if role == "targets":
            self.publish_targets(self.newest("targets"))
        elif role != "root":
            self.publish_snapshot()


def describe(bundle):
    manifest = tomllib.loads((bundle / "bundle.toml").read_text())
    envelope = json.loads((bundle / "model.sig").read_text())["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    digest = "sha256:" + statement["subject"][0]["digest"]["sha256"]
    return {"name": manifest["name"], "version": manifest["version"], "digest": digest}


def pack(bundle, path):
    """The same bundle is the same archive, byte for byte."""
    def plain(info):
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = ""
        info.mode = 0o644
        return info

    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for file in sorted(bundle.iterdir()):
            archive.add(file, file.name, recursive=False, filter=plain)


def set_rollout(described, arguments):
    rollout = described.setdefault("rollout", {})
    if arguments.percent is not None:
        # TUF's canonical JSON has no fractions.
        rollout["percent"] = arguments.percent
    if arguments.not_before is not None:
        rollout["not_before"] = arguments.not_before
    if arguments.group:
        rollout["groups"] = arguments.group
    if getattr(arguments, "all_groups", False):
        rollout.pop("groups", None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path)
    parser.add_argument("keys", type=Path)
    verbs = parser.add_subparsers(dest="verb", required=True)
    create, add = verbs.add_parser("create"), verbs.add_parser("add")
    rollout, withdraw = verbs.add_parser("rollout"), verbs.add_parser("withdraw")
    renew, rotate = verbs.add_parser("renew"), verbs.add_parser("rotate")
    for verb in (create, renew, rotate, add, rollout, withdraw):
        verb.add_argument("--days", type=int, help="what is signed now expires after so many days")
    add.add_argument("bundle", type=Path)
    add.add_argument("--minimum-daemon")
    for verb in (add, rollout):
        verb.add_argument("--percent", type=int, choices=range(101), metavar="0..100")
        verb.add_argument("--group", action="append", metavar="NAME",
                          help="for devices in this group alone; may be given again")
        verb.add_argument("--not-before", metavar="RFC3339")
    rollout.add_argument("--all-groups", action="store_true", help="for all devices, whatever their group")
    for verb in (rollout, withdraw):
        verb.add_argument("target")
    rotate.add_argument("role", choices=ROLES)
    arguments = parser.parse_args()
    repository = Repository(arguments.repository, Keys(arguments.keys), arguments.days)

    if arguments.verb == "create":
        repository.create()
    elif arguments.verb == "renew":
        repository.publish_targets(repository.newest("targets"))
    elif arguments.verb == "rotate":
        repository.rotate(arguments.role)
    else:
        targets = repository.newest("targets")
        listed = targets.signed.targets
        if arguments.verb == "add":
            described = describe(arguments.bundle)
            name = f"{described['name']}-{described['version']}.tar"
            if arguments.minimum_daemon:
                described["minimum_daemon"] = arguments.minimum_daemon
            set_rollout(described, arguments)
            archive = repository.targets / f".{name}.new"
            pack(arguments.bundle, archive)
            target = TargetFile.from_file(name, str(archive), ["sha256"])
            target.unrecognized_fields["custom"] = {"familiar": described}
            archive.replace(repository.targets / f"{target.hashes['sha256']}.{name}")
            listed[name] = target
            print(name)
        elif arguments.target not in listed:
            sys.exit(f"the repository lists no {arguments.target}: {', '.join(listed) or 'nothing'}")
        elif arguments.verb == "withdraw":
            del listed[arguments.target]
        else:
            set_rollout(listed[arguments.target].unrecognized_fields["custom"]["familiar"], arguments)
        repository.publish_targets(targets)


if __name__ == "__main__":
    main()
