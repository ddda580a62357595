package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Site is what is asked, and by whom.
type Site struct {
	*Table
	schema *Schema
	folder string
	tcp    string
	roots  *x509.CertPool

	// Over the Unix socket.
	local *Client
	// Over TCP, without a certificate.
	anybody *Client
	// An agent, with its SVID and ID, and with an SVID of each kind of entry.
	agent, admin, downstream, plain *Client
	agentSVID                       SVID
	agentID                         J
	// Of the node that x509pop let in last.
	popKey  crypto.Signer
	popNode SVID
	popID   J
}

func id(path string) J { return J{"trust_domain": Domain, "path": path} }

func uri(path string) string { return "spiffe://" + Domain + path }

// text is an ID of a tree.
func text(from any) string {
	return "spiffe://" + at(from, "trust_domain").(string) + at(from, "path").(string)
}

// meet makes a caller of each kind.
func meet(s *Site) {
	s.anybody = s.tls("anybody", SVID{})
	s.agentSVID = s.newAgent("main", "")
	s.agentID = id("/spire/agent/join_token/main")
	s.agent = s.tls("agent", s.agentSVID)
	for name, kind := range map[string]string{"admin": "admin", "downstream": "downstream", "plain": ""} {
		entry := J{
			"id": "caller-" + name, "spiffe_id": id("/" + name), "parent_id": s.agentID,
			"selectors": L{J{"type": "unix", "value": "uid:4242"}},
		}
		if kind != "" {
			entry[kind] = true
		}
		s.local.ok("Entry/BatchCreateEntry", "an entry of a caller", J{"entries": L{entry}}).
			item("an entry of a caller", 0, "entry", Want{})
	}
	s.admin = s.tls("admin", s.svid("caller-admin"))
	s.downstream = s.tls("downstream", s.svid("caller-downstream"))
	s.plain = s.tls("workload", s.svid("caller-plain"))
}

// know takes the site's CAs as they are now.
func (s *Site) know() {
	bundle := s.local.ok("Bundle/GetBundle", "the own bundle", J{})
	s.roots = x509.NewCertPool()
	for _, one := range list(bundle.body, "x509_authorities") {
		s.roots.AddCert(parse(unbase(at(one, "asn1"))))
	}
}

// svid has one signed for an entry of the agent.
func (s *Site) svid(entry string) SVID {
	key := newKey()
	params := L{J{"entry_id": entry, "csr": agentCSR(key)}}
	reply := s.agent.ok("SVID/BatchNewX509SVID", "an SVID of "+entry, J{"params": params})
	reply.item("an SVID of "+entry, 0, "svid", Want{})
	svid := at(reply.body, "results", 0, "svid")
	return SVID{text(at(svid, "id")), chain(at(svid, "cert_chain")), key}
}

// newAgent lets in an agent by a new token, which gives it `alias` too unless that is empty.
func (s *Site) newAgent(token, alias string) SVID {
	request := J{"ttl": 600, "token": token}
	if alias != "" {
		request["agent_id"] = id(alias)
	}
	s.local.ok("Agent/CreateJoinToken", "a token", request)
	key := newKey()
	reply := s.local.attest("join_token", []byte(token), agentCSR(key), nil)
	reply.want("an agent by token", Want{code: OK})
	return SVID{text(at(reply.body, "result", "svid", "id")), chain(at(reply.body, "result", "svid", "cert_chain")), key}
}

func (s *Site) unix(name, socket string, headers ...string) *Client {
	target := "unix://" + filepath.Join(s.folder, socket)
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	return &Client{s, name, conn, headers}
}

// config is that of a client which knows the site's server. An SVID without a chain is none.
func (s *Site) config(svid SVID) *tls.Config {
	config := &tls.Config{
		NextProtos: []string{"h2"},
		// By name there is nothing to verify: by ID there is.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			between := x509.NewCertPool()
			for _, one := range state.PeerCertificates[1:] {
				between.AddCert(one)
			}
			leaf := state.PeerCertificates[0]
			if len(leaf.URIs) != 1 || leaf.URIs[0].String() != uri("/spire/server") {
				return errors.New("not the site's server")
			}
			_, err := leaf.Verify(x509.VerifyOptions{Roots: s.roots, Intermediates: between})
			return err
		},
	}
	if svid.chain != nil {
		config.Certificates = []tls.Certificate{{Certificate: svid.chain, PrivateKey: svid.key}}
	}
	return config
}

func (s *Site) tls(name string, svid SVID) *Client {
	conn, err := grpc.NewClient(
		"passthrough:///"+s.tcp,
		grpc.WithTransportCredentials(credentials.NewTLS(s.config(svid))),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}),
	)
	check(err)
	return &Client{s, name, conn, nil}
}

// attest has the whole conversation. `answer` answers challenges.
func (c *Client) attest(kind string, payload, csr []byte, answer func([]byte) []byte) *Reply {
	stream := c.open("Agent/AttestAgent")
	defer stream.cancel()
	stream.send(J{"params": J{
		"data":   J{"type": kind, "payload": payload},
		"params": J{"csr": csr},
	}})
	for {
		reply := stream.next()
		challenge := unbase(at(reply.body, "challenge"))
		if len(challenge) == 0 || answer == nil {
			return reply
		}
		stream.send(J{"challenge_response": answer(challenge)})
	}
}

// sorted is a list of texts in one line.
func sorted(all []string) string {
	all = slices.Clone(all)
	slices.Sort(all)
	return strings.Join(all, " ")
}
