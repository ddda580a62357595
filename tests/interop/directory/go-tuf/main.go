// A directory by go-tuf's stock client, and a directory in our layout that go-tuf has made.
//
//	go-tuf fetch ROOT URL CACHE TARGET
//	go-tuf make FOLDER BINS NAME DESCRIPTOR MARK
//
// fetch prints {"found": TEXT}, {"found": null} where nobody has signed such a target, or
// {"refused": WHY}.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 6 && os.Args[1] == "fetch":
		err = fetch(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	case len(os.Args) == 7 && os.Args[1] == "make":
		err = made(os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6])
	default:
		err = errors.New("fetch ROOT URL CACHE TARGET, or make FOLDER BINS NAME DESCRIPTOR MARK")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func fetch(root, url, cache, target string) error {
	trusted, err := os.ReadFile(root)
	if err != nil {
		return err
	}
	found, err := fetched(trusted, url, cache, target)
	answer := map[string]any{"found": found}
	if err != nil && err.Error() == fmt.Sprintf("target %s not found", target) {
		answer = map[string]any{"found": nil}
	} else if err != nil {
		answer = map[string]any{"refused": err.Error()}
	}
	return json.NewEncoder(os.Stdout).Encode(answer)
}

func fetched(root []byte, url, cache, target string) (string, error) {
	settings, err := config.New(url+"/metadata", root)
	if err != nil {
		return "", err
	}
	settings.LocalMetadataDir = filepath.Join(cache, "metadata")
	settings.LocalTargetsDir = filepath.Join(cache, "targets")
	settings.RemoteTargetsURL = url + "/targets"
	client, err := updater.New(settings)
	if err != nil {
		return "", err
	}
	if err := client.Refresh(); err != nil {
		return "", fmt.Errorf("refresh: %w", err)
	}
	info, err := client.GetTargetInfo(target)
	if err != nil {
		return "", err
	}
	_, data, err := client.DownloadTarget(info, "", "")
	return string(data), err
}
