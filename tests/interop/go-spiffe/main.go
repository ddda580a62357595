// The go-spiffe peer of the interop tests: one mTLS side, one plain side, bytes between them.
//
//	go-spiffe serve -listen ADDR -forward ADDR …   mTLS in, plain TCP out
//	go-spiffe dial  -listen ADDR -forward ADDR …   plain TCP in, mTLS out
//	go-spiffe workload SOCKET AUDIENCE             what the Workload API has: workload.go
//
// with -cert, -key: our SVID; -domain, -bundle: the peer's trust domain and its CA in PEM; -peer:
// the only SPIFFE ID that is let through; -pieces: write in pieces of random sizes. It verifies and authorizes as go-spiffe does, and prints
// one line, "listening", once it does.
package main

import (
	"crypto/tls"
	"flag"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"sync"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// conn is what net.TCPConn and tls.Conn have in common.
type conn interface {
	net.Conn
	CloseWrite() error
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("expected serve or dial")
	}
	mode := os.Args[1]
	if mode == "workload" && len(os.Args) == 4 {
		workload(os.Args[2], os.Args[3])
		return
	}
	flags := flag.NewFlagSet(mode, flag.ExitOnError)
	listen := flags.String("listen", "", "address to listen at")
	forward := flags.String("forward", "", "address to forward to")
	cert := flags.String("cert", "", "our SVID, PEM")
	key := flags.String("key", "", "its key, PEM")
	domain := flags.String("domain", "", "the peer's trust domain")
	bundle := flags.String("bundle", "", "its CA, PEM")
	peer := flags.String("peer", "", "the peer's SPIFFE ID")
	pieces := flags.Bool("pieces", false, "write in pieces of random sizes")
	name := flags.String("name", "", "server name to ask for")
	check(flags.Parse(os.Args[2:]))

	svid, err := x509svid.Load(*cert, *key)
	check(err)
	trusted, err := x509bundle.Load(spiffeid.RequireTrustDomainFromString(*domain), *bundle)
	check(err)
	authorize := tlsconfig.AuthorizeID(spiffeid.RequireFromString(*peer))

	listener, err := net.Listen("tcp", *listen)
	check(err)
	var join func(net.Conn) (conn, conn, error)
	switch mode {
	case "serve":
		config := tlsconfig.MTLSServerConfig(svid, trusted, authorize)
		join = func(accepted net.Conn) (conn, conn, error) {
			secured := tls.Server(accepted, config)
			// Nothing is dialled for a peer that is not verified.
			if err := secured.Handshake(); err != nil {
				return nil, nil, err
			}
			plain, err := net.Dial("tcp", *forward)
			if err != nil {
				return nil, nil, err
			}
			return secured, plain.(conn), nil
		}
	case "dial":
		config := tlsconfig.MTLSClientConfig(svid, trusted, authorize)
		config.ServerName = *name
		join = func(accepted net.Conn) (conn, conn, error) {
			secured, err := tls.Dial("tcp", *forward, config)
			if err != nil {
				return nil, nil, err
			}
			return accepted.(conn), secured, nil
		}
	default:
		log.Fatalf("expected serve or dial, found %s", mode)
	}
	log.Print("listening")
	for {
		accepted, err := listener.Accept()
		check(err)
		go func() {
			defer accepted.Close()
			one, other, err := join(accepted)
			if err != nil {
				log.Printf("refused: %v", err)
				return
			}
			defer one.Close()
			defer other.Close()
			relay(one, other, *pieces)
		}()
	}
}

// relay copies both ways; the end of one direction does not end the other.
func relay(one, other conn, pieces bool) {
	var both sync.WaitGroup
	both.Add(2)
	pass := func(to, from conn) {
		defer both.Done()
		var writer io.Writer = to
		if pieces {
			writer = piecemeal{to}
		}
		if _, err := io.Copy(writer, from); err != nil {
			log.Printf("ended: %v", err)
			to.Close()
			from.Close()
			return
		}
		to.CloseWrite()
	}
	go pass(one, other)
	go pass(other, one)
	both.Wait()
}

// piecemeal writes to TLS in pieces, each at least a record of its own: mostly small ones, and some
// that take several records.
type piecemeal struct{ to io.Writer }

func (p piecemeal) Write(data []byte) (int, error) {
	written := 0
	for written < len(data) {
		most := 1 << (6 + rand.IntN(11))
		piece := min(1+rand.IntN(most), len(data)-written)
		count, err := p.to.Write(data[written : written+piece])
		written += count
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
