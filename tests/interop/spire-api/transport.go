package main

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"time"
)

// handshake connects by TLS, reads what comes first, and returns how that went.
func (s *Site) handshake(config *tls.Config) (tls.ConnectionState, error) {
	dialer := &net.Dialer{Timeout: patience}
	conn, err := tls.DialWithDialer(dialer, "tcp", s.tcp, config)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	check(conn.SetDeadline(time.Now().Add(patience)))
	// The server's settings, or the alert that in TLS 1.3 comes only now.
	_, err = conn.Read(make([]byte, 1))
	return conn.ConnectionState(), err
}

// transport is TLS and what is below (§1).
func transport(s *Site) {
	const call = "TLS"
	say := func(who, what, expected string, err error) {
		got := "served"
		if err != nil {
			got = err.Error()
		}
		s.row(strings.Contains(got, expected), call, who, what, expected, got)
	}
	config := func(svid SVID, change func(*tls.Config)) *tls.Config {
		made := s.config(svid)
		if change != nil {
			change(made)
		}
		return made
	}
	state, err := s.handshake(config(SVID{}, nil))
	say("anybody", "without a certificate", "served", err)
	leaf := state.PeerCertificates[0]
	s.row(len(leaf.DNSNames) == 0, call, "anybody", "the server's certificate has no DNS name", "0", "")
	s.row(state.NegotiatedProtocol == "h2", call, "anybody", "ALPN", "h2", state.NegotiatedProtocol)
	s.row(state.Version == tls.VersionTLS13, call, "anybody", "version", "1.3", tls.VersionName(state.Version))

	_, err = s.handshake(config(SVID{}, func(config *tls.Config) { config.NextProtos = nil }))
	if errors.Is(err, io.EOF) {
		err = errors.New("dropped")
	}
	if err != nil {
		// Whether it ends the connection before its alert is read or with it.
		err = errors.New("dropped: " + err.Error())
	}
	say("anybody", "no ALPN", "dropped", err)
	_, err = s.handshake(config(SVID{}, func(config *tls.Config) { config.NextProtos = []string{"http/1.1"} }))
	say("anybody", "another ALPN", "", err)
	s.row(err != nil, call, "anybody", "another ALPN is refused", "an error", "")
	_, err = s.handshake(config(SVID{}, func(config *tls.Config) { config.ServerName = "any.name" }))
	say("anybody", "any server name", "served", err)
	_, err = s.handshake(config(SVID{}, func(config *tls.Config) { config.MaxVersion = tls.VersionTLS12 }))
	// SPIRE's server breaks it off, for no reason of its own.
	got := "served"
	if err != nil {
		got = err.Error()
	}
	s.known(call, "anybody", "TLS 1.2 without a certificate", "remote error: tls: bad certificate", got)
	_, err = s.handshake(config(s.agentSVID, func(config *tls.Config) { config.MaxVersion = tls.VersionTLS12 }))
	say("agent", "TLS 1.2 with one", "served", err)

	asked := 0
	names := 0
	_, err = s.handshake(config(SVID{}, func(config *tls.Config) {
		config.GetClientCertificate = func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked, names = asked+1, len(request.AcceptableCAs)
			return &tls.Certificate{Certificate: s.agentSVID.chain, PrivateKey: s.agentSVID.key}, nil
		}
	}))
	say("agent", "with a certificate", "served", err)
	s.row(asked == 1 && names == 0, call, "agent", "a certificate is asked for, of no CA by name", "", "")
	cache := tls.NewLRUClientSessionCache(4)
	for range 2 {
		state, err = s.handshake(config(SVID{}, func(config *tls.Config) {
			config.ClientSessionCache, config.ServerName = cache, "one.name"
		}))
		say("anybody", "with a cache of sessions", "served", err)
	}
	s.row(!state.DidResume, call, "anybody", "no session is resumed", "false", "")

	other := newIssuer(Domain, uri(""))
	_, err = s.handshake(config(other.issue(template("", uri("/spire/agent/x")), newKey()), nil))
	say("stranger", "of a CA that is not the site's", "bad certificate", err)
	foreign := newIssuer(b, "spiffe://"+b)
	_, err = s.handshake(config(foreign.issue(template("", "spiffe://"+b+"/w"), newKey()), nil))
	say("stranger", "of another domain", "bad certificate", err)
	_, err = s.handshake(config(other.issue(template("x", ""), newKey()), nil))
	say("stranger", "without an ID", "bad certificate", err)

	large := J{"jwt_authorities": L{J{"public_key": make([]byte, 5<<20), "key_id": "k"}}}
	reply := s.local.ask("Bundle/AppendBundle", large)
	reply.same("more than 4 MiB", true, reply.code == ResourceExhausted || reply.code == OutOfRange)
}
