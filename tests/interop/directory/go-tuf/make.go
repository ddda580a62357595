package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

const day = 24 * time.Hour

// key is a pair, with its public half as TUF has it.
type key struct {
	signer signature.Signer
	public *metadata.Key
	id     string
}

func keys(count int) ([]key, error) {
	var all []key
	for range count {
		_, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			return nil, err
		}
		signer, err := signature.LoadSigner(private, crypto.Hash(0))
		if err != nil {
			return nil, err
		}
		public, err := metadata.KeyFromPublicKey(private.Public())
		if err != nil {
			return nil, err
		}
		id, err := public.ID()
		if err != nil {
			return nil, err
		}
		all = append(all, key{signer, public, id})
	}
	return all, nil
}

func in(days int) time.Time {
	return time.Now().UTC().Add(time.Duration(days) * day).Truncate(time.Second)
}

// delegated is a role by these keys, and the keys.
func delegated(name string, all []key, threshold int) (metadata.DelegatedRole, map[string]*metadata.Key) {
	role := metadata.DelegatedRole{Name: name, Threshold: threshold, Terminating: true}
	there := map[string]*metadata.Key{}
	for _, one := range all {
		role.KeyIDs = append(role.KeyIDs, one.id)
		there[one.id] = one.public
	}
	return role, there
}

type maker struct {
	folder   string
	versions map[string]*metadata.MetaFiles
}

func write[T metadata.Roles](m *maker, role string, version int64, meta *metadata.Metadata[T], by []key) error {
	for _, one := range by {
		if _, err := meta.Sign(one.signer); err != nil {
			return err
		}
	}
	name := fmt.Sprintf("%d.%s.json", version, role)
	if role == "timestamp" {
		name = "timestamp.json"
	}
	if role != "root" && role != "snapshot" && role != "timestamp" {
		m.versions[role+".json"] = metadata.MetaFile(version)
	}
	return meta.ToFile(filepath.Join(m.folder, "metadata", name), false)
}

func (m *maker) target(name string, data []byte) (*metadata.TargetFiles, error) {
	sum := sha256.Sum256(data)
	file := filepath.Join(m.folder, "targets", hex.EncodeToString(sum[:])+"."+name)
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return nil, err
	}
	return metadata.TargetFile().FromBytes(name, data, "sha256")
}

func root(version int64, institutions, host []key) (*metadata.Metadata[metadata.RootType], error) {
	root := metadata.Root(in(365))
	root.Signed.Version = version
	root.Signed.ConsistentSnapshot = true
	for role, all := range map[string][]key{
		"root": institutions, "targets": institutions, "snapshot": host, "timestamp": host,
	} {
		for _, one := range all {
			if err := root.Signed.AddKey(one.public, role); err != nil {
				return nil, err
			}
		}
		root.Signed.Roles[role].Threshold = min(2, len(all))
	}
	return root, nil
}

func bins(count int) map[string][]string {
	all := map[string][]string{}
	digits := map[int]int{1: 1, 16: 1, 256: 2}[count]
	for number := range max(16, count) {
		prefix := fmt.Sprintf("%0*x", digits, number)
		name := "bin-" + prefix
		if count == 1 {
			name = "bin"
		}
		all[name] = append(all[name], prefix)
	}
	return all
}

func made(folder, binCount, name, descriptor, mark string) error {
	count, err := strconv.Atoi(binCount)
	if err != nil {
		return err
	}
	m := &maker{folder, map[string]*metadata.MetaFiles{}}
	for _, below := range []string{"metadata", "targets", "continuity"} {
		if err := os.MkdirAll(filepath.Join(folder, below), 0o755); err != nil {
			return err
		}
	}
	all, err := keys(12)
	if err != nil {
		return err
	}
	first, second, registrars := all[:3], all[3:6], all[6:9]
	oldHost, host, own := all[9:10], all[10:11], all[11:]
	// The root is rotated twice, to other keys of institutions and to another host: 1.root.json is where
	// trust begins.
	for number, next := range []struct{ institutions, host, by []key }{
		{first, oldHost, first[:2]},
		{second, oldHost, []key{first[1], first[2], second[0], second[1]}},
		{second, host, second[1:]},
	} {
		made, err := root(int64(number+1), next.institutions, next.host)
		if err != nil {
			return err
		}
		if err := write(m, "root", made.Signed.Version, made, next.by); err != nil {
			return err
		}
	}
	role, target := "td-"+name, "td-"+name+".json"
	sum := sha256.Sum256([]byte(target))
	hash := hex.EncodeToString(sum[:])
	data, err := os.ReadFile(descriptor)
	if err != nil {
		return err
	}
	member := metadata.Targets(in(30))
	if member.Signed.Targets[target], err = m.target(target, data); err != nil {
		return err
	}
	if err := write(m, role, 1, member, own); err != nil {
		return err
	}
	data, err = json.Marshal(map[string]any{"marks": map[string][]string{mark: {name}}})
	if err != nil {
		return err
	}
	marks := metadata.Targets(in(180))
	if marks.Signed.Targets["marks.json"], err = m.target("marks.json", data); err != nil {
		return err
	}
	if err := write(m, "marks", 1, marks, registrars[:2]); err != nil {
		return err
	}
	marksRole, there := delegated("marks", registrars, 2)
	marksRole.Paths = []string{"marks.json"}
	delegations := &metadata.Delegations{Keys: there, Roles: []metadata.DelegatedRole{marksRole}}
	for binName, prefixes := range bins(count) {
		bin := metadata.Targets(in(180))
		bin.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}, Roles: []metadata.DelegatedRole{}}
		for _, prefix := range prefixes {
			if strings.HasPrefix(hash, prefix) {
				memberRole, keys := delegated(role, own, 1)
				memberRole.Paths = []string{target}
				bin.Signed.Delegations = &metadata.Delegations{Keys: keys, Roles: []metadata.DelegatedRole{memberRole}}
			}
		}
		if err := write(m, binName, 1, bin, registrars[1:]); err != nil {
			return err
		}
		binRole, _ := delegated(binName, registrars, 2)
		binRole.PathHashPrefixes = prefixes
		if count == 1 {
			// As we write it; python-tuf's maker has the prefixes of all hashes.
			binRole.PathHashPrefixes, binRole.Paths = nil, []string{"td-*.json"}
		}
		delegations.Roles = append(delegations.Roles, binRole)
	}
	targets := metadata.Targets(in(365))
	targets.Signed.Delegations = delegations
	if err := write(m, "targets", 1, targets, second[:2]); err != nil {
		return err
	}
	snapshot := metadata.Snapshot(in(7))
	snapshot.Signed.Meta = m.versions
	if err := write(m, "snapshot", 1, snapshot, host); err != nil {
		return err
	}
	data, err = os.ReadFile(filepath.Join(folder, "metadata", "1.snapshot.json"))
	if err != nil {
		return err
	}
	sum = sha256.Sum256(data)
	meta := metadata.MetaFile(1)
	meta.Length, meta.Hashes = int64(len(data)), metadata.Hashes{"sha256": sum[:]}
	timestamp := metadata.Timestamp(in(1))
	timestamp.Signed.Meta["snapshot.json"] = meta
	return write(m, "timestamp", 1, timestamp, host)
}
