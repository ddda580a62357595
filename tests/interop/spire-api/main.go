// An independent client of SPIRE's APIs, on gRPC's Go implementation and on the .proto files alone:
// asks an authority and an agent by every call that there is, as everybody who may call and who may
// not, and compares what they answer with what SPIRE answers.
//
//	spire-api prepare FOLDER   writes the CA of the nodes, for the authority's configuration
//	spire-api FOLDER PROTO
//
// FOLDER is that of a site whose authority and agent run (tests/interop/spire_api.rs has made it),
// PROTO has the .proto files. Prints lines of fields between tabs:
//
//	ok    CALL  CALLER  CASE  EXPECTED  GOT
//	FAIL  CALL  CALLER  CASE  EXPECTED  GOT
//	count CALL  NUMBER            once for each call, at the end
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
	if len(os.Args) != 3 {
		log.Fatal("expected prepare FOLDER, or FOLDER PROTO")
	}
	if os.Args[1] == "prepare" {
		prepare(os.Args[2])
		return
	}
	table := &Table{counts: map[string]int{}}
	site := &Site{
		Table:  table,
		schema: load(os.Args[2]),
		folder: os.Args[1],
		tcp:    string(read(filepath.Join(os.Args[1], "address"))),
	}
	site.meet()
	for _, part := range []func(*Site){
		transport, matrix, local, bundles, joinTokens, conversations, x509pop, agents, renewals,
		entryRules, entries, authorized, synchronized, svids, tokens, below, federated,
		relationships, debugOfAgent, workload, delegated, secrets, authorities,
	} {
		part(site)
	}
	var calls []string
	for call := range table.counts {
		calls = append(calls, call)
	}
	sort.Strings(calls)
	for _, call := range calls {
		fmt.Printf("count\t%s\t%d\n", call, table.counts[call])
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
