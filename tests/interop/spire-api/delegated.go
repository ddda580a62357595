package main

import "google.golang.org/protobuf/types/dynamicpb"

// only leaves an audience to the call that has one.
func only(call string) J {
	if call == "FetchJWTSVIDs" {
		return J{"audience": L{"x"}}
	}
	return J{}
}

// raw asks by a call that no file defines, with the messages of another.
func (c *Client) raw(call, like string) *Reply {
	method := c.site.schema.method(like)
	stream := c.openAt("/"+call, method)
	defer stream.cancel()
	if err := stream.raw.SendMsg(dynamicpb.NewMessage(method.Input())); err == nil {
		check(stream.raw.CloseSend())
	}
	return stream.next()
}

// delegated asks in another's name (§ agent.delegated): `/delegate` may, for `/asked` alone.
func delegated(s *Site) {
	const service = "DelegatedIdentity/"
	c := s.unix("workload", "agent-admin.sock")
	for _, call := range []string{"SubscribeToX509SVIDs", "SubscribeToX509Bundles", "SubscribeToJWTBundles", "FetchJWTSVIDs"} {
		c.no(service+call, "no delegate", only(call), PermissionDenied, "=caller not configured as an authorized delegate")
	}
	const other = "4243"
	s.local.ok("Entry/BatchCreateEntry", "of a delegate", J{"entries": L{
		own("delegate", me(), nil), own("asked", other, nil), own("unlisted", other, nil),
		own("asked/admin", other, J{"id": "own-admin", "admin": true}),
	}}).item("of a delegate", 0, "entry", Want{}).item("asked for", 1, "entry", Want{})
	c = s.unix("delegate", "agent-admin.sock")
	asked := J{"selectors": L{selector("unix", "uid:"+other)}}
	svids, jwts := service+"SubscribeToX509SVIDs", service+"FetchJWTSVIDs"
	c.until(svids, asked, func(reply *Reply) bool { return len(list(reply.body, "x509_svids")) == 1 })
	got := c.ok(svids, "by selectors", asked)
	got.has("SVIDs of those listed alone", 1, "x509_svids").
		is("ID", "/asked", "x509_svids", 0, "x509_svid", "id", "path").
		same("key", true, at(got.body, "x509_svids", 0, "x509_svid_key") != "")
	c.ok(svids, "of nobody's selectors", J{"selectors": L{selector("unix", "uid:4244")}}).has("SVIDs", 0, "x509_svids")
	bad := []J{{}, {"selectors": L{selector("unix", "uid:1")}, "pid": 1}}
	for _, one := range bad {
		c.no(svids, "neither or both", one, InvalidArgument, "=must provide either selectors or non-zero PID")
		one["audience"] = L{"x"}
		c.no(jwts, "neither or both", one, InvalidArgument, "=must provide either selectors or non-zero PID")
	}
	c.no(svids, "a bad selector", J{"selectors": L{selector("a:b", "x")}}, InvalidArgument, "=could not parse provided selectors")
	c.no(svids, "no process", J{"pid": 1 << 30}, NotFound, "")

	asked["audience"] = L{"kafka"}
	c.ok(jwts, "by selectors", asked).has("of those listed alone", 1, "svids").
		is("ID", "/asked", "svids", 0, "id", "path")
	c.no(jwts, "no audience", J{"selectors": asked["selectors"]}, InvalidArgument, "=audience must be specified")
	c.no(jwts, "of nobody", J{"audience": L{"x"}, "selectors": L{selector("unix", "uid:4244")}}, PermissionDenied, nobody)
	bundles := c.ok(service+"SubscribeToX509Bundles", "bundles", J{})
	bundles.same("of the own domain", true, at(bundles.body, "ca_certificates", uri("")) != nil)
	keys := c.ok(service+"SubscribeToJWTBundles", "bundles", J{})
	keys.same("of the own domain", true, at(keys.body, "bundles", uri("")) != nil)
}

// secrets are those of Envoy.
func secrets(s *Site) {
	const service = "SecretDiscoveryService/"
	c := s.unix("workload", "agent.sock")
	const kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	for _, call := range []string{"FetchSecrets", "StreamSecrets"} {
		asked := J{"type_url": kind, "resource_names": L{uri("/workload"), "ROOTCA"}}
		c.ok(service+call, "an SVID and the bundle", asked).has("secrets", 2, "resources").is("kind", kind, "type_url")
		c.no(service+call, "unknown", J{"resource_names": L{uri("/unknown")}}, InvalidArgument, "")
	}
	c.no(service+"DeltaSecrets", "by difference", J{}, Unimplemented, "=Method is not implemented")
}
