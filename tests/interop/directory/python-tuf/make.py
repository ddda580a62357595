"""A directory in our layout, made by python-tuf alone.

    make.py FOLDER BINS NAME DESCRIPTOR MARK

One member, NAME, whose descriptor is the file DESCRIPTOR and who has one mark. The root is rotated twice,
to other keys of institutions and to another host: metadata/1.root.json is where trust begins.
"""

import datetime
import hashlib
import json
import pathlib
import sys

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def keys(count):
    return [CryptoSigner.generate_ed25519() for _ in range(count)]


def public(signers):
    return {signer.public_key.keyid: signer.public_key for signer in signers}


def delegated(name, signers, threshold, **which):
    keyids = [signer.public_key.keyid for signer in signers]
    return DelegatedRole(name, keyids, threshold, True, **which)


def bins(count):
    digits = {1: 1, 16: 1, 256: 2}[count]
    prefixes = [f"{number:0{digits}x}" for number in range(16**digits)]
    if count == 1:
        return [("bin", prefixes)]
    return [(f"bin-{prefix}", [prefix]) for prefix in prefixes]


class Maker:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        for name in ("metadata", "targets", "continuity"):
            (self.folder / name).mkdir(parents=True)
        self.versions = {}

    def write(self, role, signed, signers):
        metadata = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        data = metadata.to_bytes(JSONSerializer(compact=True))
        name = f"{role}.json" if role == "timestamp" else f"{signed.version}.{role}.json"
        (self.folder / "metadata" / name).write_bytes(data)
        if role not in ("root", "snapshot", "timestamp"):
            self.versions[f"{role}.json"] = MetaFile(signed.version)
        return data

    def target(self, name, data):
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / "targets" / f"{digest}.{name}").write_bytes(data)
        return TargetFile.from_data(name, data, ["sha256"])


def main():
    folder, count, name, descriptor, mark = sys.argv[1:]
    maker = Maker(folder)
    first, second, registrars, own = keys(3), keys(3), keys(3), keys(1)
    old_host, host = keys(1), keys(1)

    def root(version, institutions, host):
        root = Root(version=version, expires=NOW + 365 * DAY, consistent_snapshot=True)
        for role, signers, threshold in (
            ("root", institutions, 2),
            ("targets", institutions, 2),
            ("snapshot", host, 1),
            ("timestamp", host, 1),
        ):
            for signer in signers:
                root.add_key(signer.public_key, role)
            root.roles[role].threshold = threshold
        return root

    maker.write("root", root(1, first, old_host), first[:2])
    maker.write("root", root(2, second, old_host), first[1:] + second[:2])
    maker.write("root", root(3, second, host), second[1:])

    role, target = f"td-{name}", f"td-{name}.json"
    hashed = hashlib.sha256(target.encode()).hexdigest()
    member = Targets(expires=NOW + 30 * DAY)
    data = pathlib.Path(descriptor).read_bytes()
    member.targets[target] = maker.target(target, data)
    maker.write(role, member, own)

    marks = Targets(expires=NOW + 180 * DAY)
    data = json.dumps({"marks": {mark: [name]}}, separators=(",", ":")).encode()
    marks.targets["marks.json"] = maker.target("marks.json", data)
    maker.write("marks", marks, registrars[:2])

    roles = {"marks": delegated("marks", registrars, 2, paths=["marks.json"])}
    for bin_name, prefixes in bins(int(count)):
        roles[bin_name] = delegated(bin_name, registrars, 2, path_hash_prefixes=prefixes)
        signed = Targets(expires=NOW + 180 * DAY)
        there, members = {}, {}
        if any(hashed.startswith(prefix) for prefix in prefixes):
            there = public(own)
            members = {role: delegated(role, own, 1, paths=[target])}
        signed.delegations = Delegations(there, members)
        maker.write(bin_name, signed, registrars[1:])

    targets = Targets(expires=NOW + 365 * DAY)
    targets.delegations = Delegations(public(registrars), roles)
    maker.write("targets", targets, second[:2])

    snapshot = Snapshot(expires=NOW + 7 * DAY, meta=maker.versions)
    data = maker.write("snapshot", snapshot, host)
    meta = MetaFile(1, len(data), {"sha256": hashlib.sha256(data).hexdigest()})
    maker.write("timestamp", Timestamp(expires=NOW + DAY, snapshot_meta=meta), host)


main()
