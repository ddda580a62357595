// An independent client of SPIRE's APIs, on gRPC's Go implementation and on the .proto files alone:
// asks an authority and an agent by every call that there is, as everybody who may call and who may
// not, and compares what they answer with what SPIRE answers.
//
//	spire-api prepare FOLDER    writes the CA of the nodes, for the authority's configuration
//	spire-api ask FOLDER PROTO  asks
//
// FOLDER is that of a site whose authority and agent run (tests/interop/spire_api.rs has made it),
// PROTO has the .proto files. Prints lines of fields between tabs:
//
//	ok    CALL  CALLER  CASE  EXPECTED  GOT
//	FAIL  CALL  CALLER  CASE  EXPECTED  GOT
//	known CALL  CALLER  CASE  EXPECTED  GOT   fails, and that is known
//	count CALL  ROWS  SERVED      once for each call, at the end
//	end
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sort"
)

// Domain is the trust domain of the site.
const Domain = "a.example"

func main() {
	log.SetFlags(0)
	if len(os.Args) == 3 && os.Args[1] == "prepare" {
		prepare(os.Args[2])
		return
	}
	if len(os.Args) != 4 || os.Args[1] != "ask" {
		log.Fatal("expected prepare FOLDER, or ask FOLDER PROTO")
	}
	table := &Table{counts: map[string]int{}, served: map[string]int{}}
	site := &Site{
		Table:  table,
		schema: load(os.Args[3]),
		folder: os.Args[2],
		tcp:    string(read(filepath.Join(os.Args[2], "address"))),
	}
	site.local = site.unix("local", "authority.sock")
	site.know()
	for _, part := range []func(*Site){
		meet, transport, matrix, foreigners, local, bundles, joinTokens, conversations, x509pop, agents, renewals,
		entryRules, entries, authorized, synchronized, svids, tokens, below, federated, relationships,
		debugOfAgent, workload, delegated, secrets, authorities,
	} {
		part(site)
	}
	var calls []string
	for call := range table.counts {
		calls = append(calls, call)
	}
	sort.Strings(calls)
	for _, call := range calls {
		fmt.Printf("count\t%s\t%d\t%d\n", call, table.counts[call], table.served[call])
	}
	fmt.Println("end")
}

func read(file string) []byte {
	bytes, err := os.ReadFile(file)
	check(err)
	return bytes
}

// check ends the program on what is no answer of the other side, but a defect of this one.
func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}
