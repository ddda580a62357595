package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// workload asks the Workload API at the socket for everything it has, as go-spiffe's users do, and
// prints one line of JSON; then a line for each update, until it is killed.
func workload(socket, audience string) {
	ctx := context.Background()
	first, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client, err := workloadapi.New(first, workloadapi.WithAddr("unix://"+socket))
	check(err)
	x509, err := client.FetchX509Context(first)
	check(err)
	said := map[string]any{}
	var ids, hints []string
	for _, svid := range x509.SVIDs {
		ids = append(ids, svid.ID.String())
		hints = append(hints, svid.Hint)
	}
	said["ids"], said["hints"] = ids, hints
	var domains []string
	for _, bundle := range x509.Bundles.Bundles() {
		domains = append(domains, bundle.TrustDomain().String())
	}
	said["domains"] = domains
	subject := x509.SVIDs[0].ID
	token, err := client.FetchJWTSVID(first, jwtsvid.Params{Audience: audience, Subject: subject})
	check(err)
	valid, err := client.ValidateJWTSVID(first, token.Marshal(), audience)
	check(err)
	said["validated"] = valid.ID.String()
	_, err = client.ValidateJWTSVID(first, token.Marshal(), "another")
	said["refused"] = err.Error()
	bundles, err := client.FetchJWTBundles(first)
	check(err)
	// By itself, with the keys of the bundle.
	own, err := jwtsvid.ParseAndValidate(token.Marshal(), bundles, []string{audience})
	check(err)
	said["parsed"] = own.ID.String()
	_, err = client.FetchJWTSVID(first, jwtsvid.Params{
		Audience: audience,
		Subject:  spiffeid.RequireFromString("spiffe://" + subject.TrustDomain().String() + "/not/mine"),
	})
	said["foreign"] = err.Error()
	say(said)
	check(client.WatchX509Context(ctx, watcher{}))
}

type watcher struct{}

func (watcher) OnX509ContextUpdate(context *workloadapi.X509Context) {
	var serials []string
	for _, svid := range context.SVIDs {
		serials = append(serials, svid.Certificates[0].SerialNumber.Text(16))
	}
	say(map[string]any{"serials": serials})
}

func (watcher) OnX509ContextWatchError(err error) {
	say(map[string]any{"error": err.Error()})
}

func say(what map[string]any) {
	check(json.NewEncoder(os.Stdout).Encode(what))
}
