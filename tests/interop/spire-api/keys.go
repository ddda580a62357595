package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"net/url"
	"time"
)

// SVID is a certificate with its chain and key.
type SVID struct {
	id    string
	chain [][]byte
	key   crypto.Signer
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	return key
}

// Names are what a request asks for.
type Names struct {
	subject pkix.Name
	uris    []string
	dns     []string
}

func csr(key crypto.Signer, names Names) []byte {
	template := x509.CertificateRequest{Subject: names.subject, DNSNames: names.dns}
	for _, text := range names.uris {
		uri, err := url.Parse(text)
		check(err)
		template.URIs = append(template.URIs, uri)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	check(err)
	return der
}

// agentCSR is what SPIRE's agents send.
func agentCSR(key crypto.Signer) []byte {
	return csr(key, Names{subject: pkix.Name{Country: []string{"US"}, Organization: []string{"SPIRE"}}})
}

// forged is a request that is not signed by its key.
func forged() []byte {
	der := agentCSR(newKey())
	der[len(der)-1] ^= 1
	return der
}

func parse(der []byte) *x509.Certificate {
	certificate, err := x509.ParseCertificate(der)
	check(err)
	return certificate
}

// unbase reads bytes from a tree.
func unbase(from any) []byte {
	text, _ := from.(string)
	bytes, err := base64.StdEncoding.DecodeString(text)
	check(err)
	return bytes
}

// chain reads certificates from a tree.
func chain(from any) [][]byte {
	var ders [][]byte
	for _, one := range list(from) {
		ders = append(ders, unbase(one))
	}
	return ders
}

// issuer is a CA of the test's own, for certificates that nobody here has issued.
type issuer struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func newIssuer(subject, uri string) issuer {
	key := newKey()
	template := template(subject, uri)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(err)
	return issuer{parse(der), key}
}

func template(subject, uri string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	check(err)
	made := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: subject},
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	if uri != "" {
		parsed, failed := url.Parse(uri)
		check(failed)
		made.URIs = []*url.URL{parsed}
	}
	return made
}

func (i issuer) issue(template *x509.Certificate, key crypto.Signer) SVID {
	der, err := x509.CreateCertificate(rand.Reader, template, i.certificate, key.Public(), i.key)
	check(err)
	return SVID{chain: [][]byte{der}, key: key}
}
