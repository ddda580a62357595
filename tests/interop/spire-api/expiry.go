package main

import "time"

// expiry is that of an agent's certificate, on a connection that is open and on another (§3).
func expiry(s *Site) {
	svid := s.newAgent("short", "")
	agent := s.tls("agent", svid)
	agent.ok("Agent/PostStatus", "while it is valid", J{})
	time.Sleep(time.Until(parse(svid.chain[0]).NotAfter.Add(time.Second)))
	for _, call := range []string{"Agent/PostStatus", "Agent/RenewAgent", "Entry/GetAuthorizedEntries",
		"Entry/SyncAuthorizedEntries", "SVID/BatchNewX509SVID", "SVID/NewJWTSVID", "Bundle/GetFederatedBundle"} {
		agent.ask(call, J{}).
			want("past its end", Want{PermissionDenied, "authorization denied for method", "AGENT_EXPIRED"})
	}
	agent.ok("Bundle/GetBundle", "as anybody, past its end", J{})
	_, err := s.handshake(s.config(svid))
	got := "served"
	if err != nil {
		got = err.Error()
	}
	const expected = "remote error: tls: bad certificate"
	s.row(got == expected, "TLS", "agent", "past its end, another connection", expected, got)
}
