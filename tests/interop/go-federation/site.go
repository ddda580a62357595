package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"log"
	"math/big"
	"net/url"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// authority is a CA of ours.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// site is a CA and what it has signed, as they change.
type site struct {
	domain           spiffeid.TrustDomain
	bundles          *spiffebundle.Set
	server, workload *identity

	lock              sync.Mutex
	old, active, next *authority
	sequence          uint64
}

// identity is an SVID that is replaced.
type identity struct {
	lock sync.Mutex
	svid *x509svid.SVID
}

func (i *identity) GetX509SVID() (*x509svid.SVID, error) {
	i.lock.Lock()
	defer i.lock.Unlock()
	return i.svid, nil
}

func newSite(domain spiffeid.TrustDomain) *site {
	s := &site{
		domain: domain, bundles: spiffebundle.NewSet(),
		server: &identity{}, workload: &identity{}, active: newAuthority(domain),
	}
	s.publish()
	s.sign()
	return s
}

// publish has the bundle hold what is believed now, with the next number.
func (s *site) publish() {
	bundle := spiffebundle.New(s.domain)
	for _, one := range []*authority{s.old, s.active, s.next} {
		if one != nil {
			bundle.AddX509Authority(one.certificate)
		}
	}
	s.sequence++
	bundle.SetSequenceNumber(s.sequence)
	bundle.SetRefreshHint(time.Minute)
	s.bundles.Add(bundle)
}

// sign makes both SVIDs anew.
func (s *site) sign() {
	for path, one := range map[string]*identity{"/spire/server": s.server, "/w": s.workload} {
		svid := s.active.issue(spiffeid.RequireFromPath(s.domain, path))
		one.lock.Lock()
		one.svid = svid
		one.lock.Unlock()
	}
}

func (s *site) prepare() {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.next = newAuthority(s.domain)
	s.publish()
}

func (s *site) activate() {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.next == nil {
		log.Fatal("none is prepared")
	}
	s.old, s.active, s.next = s.active, s.next, nil
	s.sign()
}

func (s *site) revoke() {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.old = nil
	s.publish()
}

func number() *big.Int {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	check(err)
	return serial
}

func template(id *url.URL) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: number(), URIs: []*url.URL{id}, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
	}
}

func newAuthority(domain spiffeid.TrustDomain) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	ca := template(domain.ID().URL())
	ca.IsCA, ca.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	ca.Subject = pkix.Name{Organization: []string{"go-federation"}, SerialNumber: ca.SerialNumber.String()}
	return &authority{sign(ca, ca, key, key), key}
}

func (a *authority) issue(id spiffeid.ID) *x509svid.SVID {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	leaf := template(id.URL())
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	signed := sign(leaf, a.certificate, key, a.key)
	return &x509svid.SVID{ID: id, Certificates: []*x509.Certificate{signed}, PrivateKey: key}
}

func sign(what, by *x509.Certificate, key, byKey *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, what, by, &key.PublicKey, byKey)
	check(err)
	parsed, err := x509.ParseCertificate(der)
	check(err)
	return parsed
}
