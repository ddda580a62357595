// A site made of go-spiffe alone: its own CA, bundle endpoints by both profiles (federation.NewHandler),
// the bundles of its peers (federation.WatchBundle), and one workload, /w, that echoes over mTLS.
//
//	go-federation -domain TD -spiffe ADDR -web ADDR -cert FILE -key FILE -roots FILE
//	    -gate ADDR -accept ID,ID -control ADDR
//	    -peer TD,https_spiffe,URL,ID,BUNDLE -peer TD,https_web,URL
//
// It is told what to do over plain HTTP at -control: /bundle, /prepare, /activate, /revoke,
// /known?domain=TD, /dial?address=ADDR&id=ID&name=NAME. It prints "listening" once it does.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
)

type peers []string

func (p *peers) String() string         { return strings.Join(*p, " ") }
func (p *peers) Set(value string) error { *p = append(*p, value); return nil }

// watcher puts what is fetched into the set.
type watcher struct {
	domain  string
	bundles *spiffebundle.Set
}

// NextRefresh is sooner than any site asks for: tests do not wait.
func (w watcher) NextRefresh(time.Duration) time.Duration { return 500 * time.Millisecond }

func (w watcher) OnUpdate(bundle *spiffebundle.Bundle) {
	sequence, _ := bundle.SequenceNumber()
	log.Printf("%s: %d CAs, sequence %d", w.domain, len(bundle.X509Authorities()), sequence)
	w.bundles.Add(bundle)
}

func (w watcher) OnError(err error) { log.Printf("%s: %v", w.domain, err) }

func main() {
	log.SetFlags(0)
	domain := flag.String("domain", "", "our trust domain")
	spiffe := flag.String("spiffe", "", "address of the https_spiffe endpoint")
	web := flag.String("web", "", "address of the https_web endpoint")
	cert := flag.String("cert", "", "certificate of the https_web endpoint, PEM")
	key := flag.String("key", "", "its key, PEM")
	rootsFile := flag.String("roots", "", "roots of the web, PEM")
	gate := flag.String("gate", "", "address of the workload")
	accept := flag.String("accept", "", "who may come to it")
	control := flag.String("control", "", "address at which it is told what to do")
	var known peers
	flag.Var(&known, "peer", "a peer")
	flag.Parse()

	td := spiffeid.RequireTrustDomainFromString(*domain)
	site := newSite(td)
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(*rootsFile)
	check(err)
	roots.AppendCertsFromPEM(pem)
	for _, peer := range known {
		watch(site, peer, roots)
	}

	handler, err := federation.NewHandler(td, site.bundles)
	check(err)
	serve(*spiffe, tlsconfig.TLSServerConfig(site.server), handler)
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	check(err)
	serve(*web, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, handler)

	var ids []spiffeid.ID
	for _, id := range strings.Split(*accept, ",") {
		ids = append(ids, spiffeid.RequireFromString(id))
	}
	listener, err := tls.Listen("tcp", *gate,
		tlsconfig.MTLSServerConfig(site.workload, site.bundles, tlsconfig.AuthorizeOneOf(ids...)))
	check(err)
	go echo(listener)
	go func() { check(http.ListenAndServe(*control, commands(site))) }()
	log.Print("listening")
	select {}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// watch follows the bundle of a peer, as it was written on the command line.
func watch(site *site, peer string, roots *x509.CertPool) {
	words := strings.Split(peer, ",")
	td := spiffeid.RequireTrustDomainFromString(words[0])
	var option federation.FetchOption
	if words[1] == "https_spiffe" {
		bundle, err := spiffebundle.Load(td, words[4])
		check(err)
		site.bundles.Add(bundle)
		option = federation.WithSPIFFEAuth(site.bundles, spiffeid.RequireFromString(words[3]))
	} else {
		option = federation.WithWebPKIRoots(roots)
	}
	follower := watcher{domain: words[0], bundles: site.bundles}
	go func() {
		check(federation.WatchBundle(context.Background(), td, words[2], follower, option))
	}()
}

func serve(address string, config *tls.Config, handler http.Handler) {
	listener, err := tls.Listen("tcp", address, config)
	check(err)
	server := http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { check(server.Serve(listener)) }()
}

func echo(listener net.Listener) {
	for {
		stream, err := listener.Accept()
		check(err)
		go func() {
			defer stream.Close()
			if _, err := io.Copy(stream, stream); err != nil {
				log.Printf("refused: %v", err)
			}
		}()
	}
}

func commands(site *site) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/bundle", func(answer http.ResponseWriter, _ *http.Request) {
		bundle, _ := site.bundles.Get(site.domain)
		text, err := bundle.Marshal()
		check(err)
		_, _ = answer.Write(text)
	})
	mux.HandleFunc("/known", func(answer http.ResponseWriter, request *http.Request) {
		td := spiffeid.RequireTrustDomainFromString(request.URL.Query().Get("domain"))
		bundle, found := site.bundles.Get(td)
		if !found {
			http.Error(answer, "none", http.StatusNotFound)
			return
		}
		fmt.Fprint(answer, len(bundle.X509Authorities()))
	})
	for name, step := range map[string]func(){
		"/prepare": site.prepare, "/activate": site.activate, "/revoke": site.revoke,
	} {
		mux.HandleFunc(name, func(answer http.ResponseWriter, _ *http.Request) {
			step()
			fmt.Fprint(answer, "done")
		})
	}
	mux.HandleFunc("/dial", func(answer http.ResponseWriter, request *http.Request) {
		query := request.URL.Query()
		id := spiffeid.RequireFromString(query.Get("id"))
		if err := site.dial(query.Get("address"), query.Get("name"), id); err != nil {
			http.Error(answer, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprint(answer, "done")
	})
	return mux
}

// dial has its own words come back over mTLS.
func (s *site) dial(address, name string, id spiffeid.ID) error {
	config := tlsconfig.MTLSClientConfig(s.workload, s.bundles, tlsconfig.AuthorizeID(id))
	config.ServerName = name
	stream, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", address, config)
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := stream.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	const words = "the same words come back"
	if _, err := io.WriteString(stream, words); err != nil {
		return err
	}
	back := make([]byte, len(words))
	if _, err := io.ReadFull(stream, back); err != nil {
		return err
	}
	if string(back) != words {
		return fmt.Errorf("other words came back: %q", back)
	}
	return nil
}
