package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
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
	template := template(name, "x509pop://"+Domain+"/rack/7")
	return s.nodes().issue(template, key)
}

func (s *Site) nodes() issuer {
	return readIssuer(filepath.Join(s.folder, nodes))
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
	for kind, key := range map[string]crypto.Signer{"ecdsa": newKey(), "rsa": rsaKey} {
		node := s.node("node-"+kind, key)
		sum := sha1.Sum(node.chain[0])
		path := "/spire/agent/x509pop/" + hex.EncodeToString(sum[:])
		form := map[string]json.RawMessage{}
		good := s.pop(s.local, node, func(challenge []byte) []byte {
			check(json.Unmarshal(challenge, &form))
			return prove(key, challenge)
		})
		other := map[string]string{"ecdsa": "rsa", "rsa": "ecdsa"}[kind]
		good.want("by "+kind, Want{code: OK}).
			same("the challenge asks for one kind", "null", string(form[other+"_signature"])).
			is("ID", path, "result", "svid", "id", "path").
			is("can attest again", true, "result", "reattestable")
		ca := sha1.Sum(s.nodes().certificate.Raw)
		want := []string{
			"subject:cn:node-" + kind, "san:rack:7", "ca:fingerprint:" + hex.EncodeToString(ca[:]),
			"serialnumber:" + evenHex(parse(node.chain[0]).SerialNumber.Bytes()),
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
	s.badProofs()
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
	s.pop(s.local, newIssuer("x", "").issue(template("x", ""), key), never).
		want("of another CA", Want{code: PermissionDenied, text: "certificate verification failed"})
	s.pop(s.local, node, func(challenge []byte) []byte { return prove(newKey(), challenge) }).
		want("without the key", Want{code: PermissionDenied, text: "challenge response verification failed"})
	s.pop(s.local, node, func([]byte) []byte { return []byte("x") }).
		want("no JSON for an answer", Want{code: InvalidArgument})
}

func evenHex(bytes []byte) string { return hex.EncodeToString(bytes) }

// prepare writes the CA that nodes have their certificates from.
func prepare(folder string) {
	made := newIssuer("nodes", "")
	check(os.WriteFile(filepath.Join(folder, nodes+".pem"), pemOf("CERTIFICATE", made.certificate.Raw), 0o600))
	check(os.WriteFile(filepath.Join(folder, nodes+".key"), pkcs8(made.key), 0o600))
}
