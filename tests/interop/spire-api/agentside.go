package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// own is an entry for processes of this user on the node where the agent is.
func own(name, user string, more J) J {
	entry := J{
		"id": "own-" + name, "spiffe_id": id("/" + name), "parent_id": id("/node/local"),
		"selectors": L{selector("unix", "uid:"+user)}, "hint": name,
	}
	for key, value := range more {
		entry[key] = value
	}
	return entry
}

func me() string { return fmt.Sprint(os.Getuid()) }

// until asks again, without a row, until it is as it should be: agents look every 5 s.
func (c *Client) until(call string, request J, good func(*Reply) bool) {
	begin := time.Now()
	for !good(c.ask(call, request)) && time.Since(begin) < patience {
		time.Sleep(100 * time.Millisecond)
	}
}

const (
	header = "workload.spiffe.io"
	fetch  = "SpiffeWorkloadAPI/FetchX509SVID"
	nobody = "=no identity issued"
)

// debugOfAgent is that of the agent, and whom it knows before there is an entry for this process.
func debugOfAgent(s *Site) {
	admin := s.unix("local", "agent-admin.sock")
	info := admin.ok("AgentDebug/GetInfo", "what the agent says of itself", J{})
	info.is("subject", "O=SPIRE,C=US", "svid_chain", 0, "subject").is("SVIDs: that of the node", 1, "svids_count").
		same("has synchronized", true, at(info.body, "last_sync_success") != "0").
		same("its ID", "/spire/agent/", at(info.body, "svid_chain", 0, "id", "path").(string)[:13])
	c := s.unix("workload without entry", "agent.sock", header, "true")
	for _, call := range []string{fetch, "SpiffeWorkloadAPI/FetchX509Bundles", "SpiffeWorkloadAPI/FetchJWTBundles"} {
		c.no(call, "no entry", J{}, PermissionDenied, nobody)
	}
	c.no("SpiffeWorkloadAPI/FetchJWTSVID", "no entry", J{"audience": L{"x"}}, PermissionDenied, nobody)
	for _, call := range []string{"SubscribeToX509SVIDs", "SubscribeToX509Bundles", "SubscribeToJWTBundles", "FetchJWTSVIDs"} {
		s.unix("nobody", "agent-admin.sock").no("DelegatedIdentity/"+call, "no entry",
			only(call), PermissionDenied, nobody)
	}
	levels(admin, "AgentLogger")
}

// workload is the Workload API (spiffe.md §2) for a process with one entry.
func workload(s *Site) {
	s.local.ok("Entry/BatchCreateEntry", "of this process", J{"entries": L{own("workload", me(), nil)}}).
		item("of this process", 0, "entry", Want{})
	c := s.unix("workload", "agent.sock", header, "true")
	c.until(fetch, J{}, func(reply *Reply) bool { return reply.code == OK })
	got := c.ok(fetch, "its SVID", J{})
	leaf := parse(leafOf(unbase(at(got.body, "svids", 0, "x509_svid"))))
	got.has("SVIDs", 1, "svids").is("ID", uri("/workload"), "svids", 0, "spiffe_id").
		is("hint", "workload", "svids", 0, "hint").same("the certificate's ID", uri("/workload"), leaf.URIs[0])
	got.profile(leaf, leaf.Subject.String(), uri("/workload"))

	bundles := c.ok("SpiffeWorkloadAPI/FetchX509Bundles", "bundles", J{})
	bundles.same("of the own domain", true, at(bundles.body, "bundles", uri("")) == at(got.body, "svids", 0, "bundle"))
	keys := c.ok("SpiffeWorkloadAPI/FetchJWTBundles", "bundles", J{})
	set := J{}
	check(json.Unmarshal(unbase(at(keys.body, "bundles", uri(""))), &set))
	keys.same("keys", true, len(list(set, "keys")) > 0)

	token, valid := "SpiffeWorkloadAPI/FetchJWTSVID", "SpiffeWorkloadAPI/ValidateJWTSVID"
	made := c.ok(token, "a token", J{"audience": L{"kafka"}})
	made.has("tokens", 1, "svids").is("ID", uri("/workload"), "svids", 0, "spiffe_id")
	c.ok(token, "by ID", J{"audience": L{"kafka"}, "spiffe_id": uri("/workload")}).has("tokens", 1, "svids")
	c.no(token, "no audience", J{}, InvalidArgument, "=audience must be specified")
	c.no(token, "another's", J{"audience": L{"x"}, "spiffe_id": uri("/other")}, PermissionDenied, nobody)
	c.no(token, "no ID", J{"audience": L{"x"}, "spiffe_id": "x"}, InvalidArgument,
		"=invalid requested SPIFFE ID: scheme is missing or invalid")
	svid := at(made.body, "svids", 0, "svid")
	c.ok(valid, "a token", J{"svid": svid, "audience": "kafka"}).is("ID", uri("/workload"), "spiffe_id").
		is("claims", uri("/workload"), "claims", "sub")
	c.no(valid, "another audience", J{"svid": svid, "audience": "other"}, InvalidArgument,
		`=expected audience in ["other"] (audience=["kafka"])`)
	c.no(valid, "no audience", J{"svid": svid}, InvalidArgument, "=audience must be specified")
	c.no(valid, "no token", J{"audience": "x"}, InvalidArgument, "=svid must be specified")
	c.no(valid, "garbage", J{"svid": "!.e.e", "audience": "x"}, InvalidArgument, "unable to parse JWT token")

	for _, one := range [][]string{nil, {header, "True"}, {header, "true", header, "true"}} {
		bare := s.unix("workload without header", "agent.sock", one...)
		for _, call := range []string{fetch, "SpiffeWorkloadAPI/FetchX509Bundles", "SpiffeWorkloadAPI/FetchJWTBundles", token, valid} {
			bare.no(call, fmt.Sprint("header ", one), J{}, InvalidArgument, "=security header missing from request")
		}
	}
	for _, call := range []string{"FetchWITSVID", "FetchWITBundles"} {
		c.raw("SpiffeWorkloadAPI/"+call, fetch).want("the WIT profile", Want{code: Unimplemented})
	}
}

// leafOf is the first of some certificates, one behind the other.
func leafOf(ders []byte) []byte {
	length := int(ders[2])<<8 | int(ders[3])
	return ders[:length+4]
}
