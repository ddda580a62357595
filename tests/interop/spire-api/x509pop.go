package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
)

// Its file stands in the authority's configuration before that starts: `prepare` writes it.
const nodes = "nodes"

type ecdsaAnswer struct {
	Nonce []byte `json:"nonce"`
	R     []byte `json:"r"`
	S     []byte `json:"s"`
}

type rsaAnswer struct {
	Nonce     []byte `json:"nonce"`
	Signature []byte `json:"signature"`
}

type answer struct {
	RSA   *rsaAnswer   `json:"rsa_signature,omitempty"`
	ECDSA *ecdsaAnswer `json:"ecdsa_signature,omitempty"`
}

func encode(what any) []byte {
	text, err := json.Marshal(what)
	check(err)
	return text
}

// prove answers a challenge as SPIRE's agents do: a signature over both nonces.
func prove(key crypto.Signer, challenge []byte) []byte {
	var asked struct {
		RSA   *rsaAnswer   `json:"rsa_signature"`
		ECDSA *ecdsaAnswer `json:"ecdsa_signature"`
	}
	check(json.Unmarshal(challenge, &asked))
	own := make([]byte, 32)
	_, err := rand.Read(own)
	check(err)
	switch key := key.(type) {
	case *rsa.PrivateKey:
		digest := sha256.Sum256(append(asked.RSA.Nonce, own...))
		signature, failed := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], nil)
		check(failed)
		return encode(answer{RSA: &rsaAnswer{own, signature}})
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256(append(asked.ECDSA.Nonce, own...))
		r, s, failed := ecdsa.Sign(rand.Reader, key, digest[:])
		check(failed)
		return encode(answer{ECDSA: &ecdsaAnswer{own, r.Bytes(), s.Bytes()}})
	}
	panic("no such key")
}

// node is a certificate of the CA that the authority takes.
func (s *Site) node(name string, key crypto.Signer) SVID {
	return s.nodes().issue(nodeTemplate(name), key)
}

func nodeTemplate(name string) *x509.Certificate {
	return template(name, "x509pop://"+Domain+"/rack/7")
}

func (s *Site) nodes() issuer {
	return readIssuer(filepath.Join(s.folder, nodes))
}

// under makes a CA below another.
func (i issuer) under(name string) issuer {
	key, made := newKey(), template(name, "")
	made.IsCA, made.BasicConstraintsValid, made.KeyUsage = true, true, x509.KeyUsageCertSign
	return issuer{parse(i.issue(made, key).chain[0]), key}
}

func (s *Site) pop(on *Client, node SVID, prove func([]byte) []byte) *Reply {
	payload := encode(map[string]any{"certificates": node.chain})
	return on.attest("x509pop", payload, agentCSR(s.popKey), prove)
}

// x509pop attests by certificate (§3).
func x509pop(s *Site) {
	s.popKey = newKey()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	check(err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(err)
	s.goodProof("ecdsa", s.node("node-ecdsa", newKey()), s.nodes())
	between := s.nodes().under("between")
	below := between.issue(nodeTemplate("node-p384"), p384)
	below.chain = append(below.chain, between.certificate.Raw)
	s.goodProof("p384", below, s.nodes(), between)
	s.goodProof("rsa", s.node("node-rsa", rsaKey), s.nodes())
	s.badProofs()
}

// goodProof lets a node in, and looks at what is known of it.
func (s *Site) goodProof(kind string, node SVID, issuers ...issuer) {
	sum := sha1.Sum(node.chain[0])
	path := "/spire/agent/x509pop/" + hex.EncodeToString(sum[:])
	form := map[string]json.RawMessage{}
	good := s.pop(s.local, node, func(challenge []byte) []byte {
		check(json.Unmarshal(challenge, &form))
		return prove(node.key, challenge)
	})
	other := "rsa_signature"
	if kind == "rsa" {
		other = "ecdsa_signature"
	}
	good.want("by "+kind, Want{code: OK}).
		same("the challenge asks for one kind", "null", string(form[other])).
		is("ID", path, "result", "svid", "id", "path").
		is("can attest again", true, "result", "reattestable")
	leaf := parse(node.chain[0])
	want := []string{
		"subject:cn:node-" + kind, "san:rack:7", "serialnumber:" + hex.EncodeToString(leaf.SerialNumber.Bytes()),
	}
	for _, one := range issuers {
		ca := sha1.Sum(one.certificate.Raw)
		want = append(want, "ca:fingerprint:"+hex.EncodeToString(ca[:]))
	}
	told := s.local.ok("Agent/GetAgent", "by "+kind, J{"id": id(path)})
	var selectors []string
	for _, one := range list(told.body, "selectors") {
		selectors = append(selectors, at(one, "value").(string))
	}
	told.same("selectors", sorted(want), sorted(selectors)).is("type", "x509pop", "attestation_type").
		is("can attest again", true, "can_reattest")
	s.popNode, s.popID = node, id(path)
}

func (s *Site) badProofs() {
	key := newKey()
	node := s.node("node-bad", key)
	never := func([]byte) []byte { return nil }
	s.local.attest("x509pop", []byte("x"), agentCSR(key), never).want("no JSON", Want{code: InvalidArgument})
	s.local.attest("x509pop", encode(J{"certificates": L{}}), agentCSR(key), never).
		want("no certificate", Want{code: InvalidArgument})
	s.local.attest("x509pop", encode(J{"certificates": L{[]byte("x")}}), agentCSR(key), never).
		want("a bad certificate", Want{code: InvalidArgument})
	many := node
	for range 5 {
		many.chain = append(many.chain, s.nodes().certificate.Raw)
	}
	s.pop(s.local, many, never).want("five intermediates", Want{code: InvalidArgument})
	unfit := nodeTemplate("node-unfit")
	unfit.KeyUsage = x509.KeyUsageKeyEncipherment
	s.pop(s.local, s.nodes().issue(unfit, key), never).
		want("not for signatures", Want{code: PermissionDenied, text: "digital signature"})
	s.pop(s.local, newIssuer("x", "").issue(template("x", ""), key), never).
		want("of another CA", Want{code: PermissionDenied, text: "certificate verification failed"})
	s.pop(s.local, node, func(challenge []byte) []byte { return prove(newKey(), challenge) }).
		want("without the key", Want{code: PermissionDenied, text: "challenge response verification failed"})
	s.pop(s.local, node, func([]byte) []byte { return []byte("x") }).
		want("no JSON for an answer", Want{code: InvalidArgument})
}

// prepare writes the CA that nodes have their certificates from.
func prepare(folder string) {
	made := newIssuer("nodes", "")
	check(os.WriteFile(filepath.Join(folder, nodes+".pem"), pemOf("CERTIFICATE", made.certificate.Raw), 0o600))
	check(os.WriteFile(filepath.Join(folder, nodes+".key"), pkcs8(made.key), 0o600))
}
