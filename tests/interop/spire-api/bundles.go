package main

import (
	"crypto/x509"
	"fmt"
)

func spki() []byte {
	der, err := x509.MarshalPKIXPublicKey(newKey().Public())
	check(err)
	return der
}

func jwtKey(name string) J { return J{"public_key": spki(), "key_id": name} }

// authority is one that a bundle may have.
func authority(domain string) J {
	return J{"asn1": newIssuer(domain, "spiffe://"+domain).certificate.Raw}
}

// bundles asks for the own bundle, and adds to it (§6).
func bundles(s *Site) {
	c := s.local
	for _, as := range []*Client{s.local, s.anybody, s.agent, s.admin, s.downstream, s.plain} {
		as.ok("Bundle/GetBundle", "anybody", J{}).is("domain", Domain, "trust_domain").
			is("refresh hint", "0", "refresh_hint").
			same("a key", true, at(as.ask("Bundle/GetBundle", J{}).body, "jwt_authorities", 0, "key_id") != "")
	}
	whole := c.ok("Bundle/GetBundle", "all fields", J{})
	sequence := at(whole.body, "sequence_number")
	cas, keys := len(list(whole.body, "x509_authorities")), len(list(whole.body, "jwt_authorities"))
	ca := parse(unbase(at(whole.body, "x509_authorities", 0, "asn1")))
	whole.same("a CA's key usage", x509.KeyUsageCertSign|x509.KeyUsageCRLSign, ca.KeyUsage).
		same("without a length", true, ca.IsCA && ca.MaxPathLen == -1).same("ID", "["+uri("")+"]", fmt.Sprint(ca.URIs)).
		same("subject", fmt.Sprintf("SERIALNUMBER=%s,O=SPIFFE,C=US", ca.SerialNumber), ca.Subject).
		same("name of its key", keyName(ca), fmt.Sprintf("%x", ca.SubjectKeyId))
	c.ok("Bundle/GetBundle", "an empty mask", J{"output_mask": J{}}).
		is("domain", Domain, "trust_domain").has("CAs", 0, "x509_authorities").
		has("keys", 0, "jwt_authorities").is("sequence", "0", "sequence_number")
	c.ok("Bundle/GetBundle", "a mask", J{"output_mask": J{"jwt_authorities": true}}).
		has("CAs", 0, "x509_authorities").has("keys", keys, "jwt_authorities")
	c.ok("Bundle/GetBundle", "reads change nothing", J{}).is("sequence", sequence, "sequence_number")

	c.no("Bundle/AppendBundle", "nothing", J{}, InvalidArgument, "no authorities to append")
	c.no("Bundle/AppendBundle", "no certificate", J{"x509_authorities": L{J{"asn1": []byte("x")}}}, InvalidArgument, "")
	c.no("Bundle/AppendBundle", "a key without a name",
		J{"jwt_authorities": L{J{"public_key": spki()}}}, InvalidArgument, "missing key ID")
	c.no("Bundle/AppendBundle", "no key",
		J{"jwt_authorities": L{J{"public_key": []byte("x"), "key_id": "k"}}}, InvalidArgument, "")
	added := authority(Domain)
	added["tainted"] = true
	request := J{"x509_authorities": L{added}}
	after := func(more int) string { return fmt.Sprint(number(sequence) + more) }
	c.ok("Bundle/AppendBundle", "a CA", request).has("CAs", cas+1, "x509_authorities").
		is("taint that is sent does not count", false, "x509_authorities", cas, "tainted").
		is("sequence", after(1), "sequence_number")
	c.ok("Bundle/AppendBundle", "the same again", request).has("CAs", cas+1, "x509_authorities").
		is("sequence stays", after(1), "sequence_number")
	s.admin.ok("Bundle/AppendBundle", "a key", J{"jwt_authorities": L{jwtKey("appended")}, "output_mask": J{"sequence_number": true}}).
		has("keys outside of the mask", 0, "jwt_authorities").is("sequence", after(2), "sequence_number")
	c.ok("Bundle/GetBundle", "after that", J{}).has("keys", keys+1, "jwt_authorities")
	c.no("Bundle/AppendBundle", "another key of that name",
		J{"jwt_authorities": L{jwtKey("appended")}}, AlreadyExists, "")
	c.ok("Bundle/CountBundles", "the own one counts", J{}).is("count", 1, "count")
	s.know()
}

func number(from any) int {
	var read int
	_, err := fmt.Sscan(fmt.Sprint(from), &read)
	check(err)
	return read
}
