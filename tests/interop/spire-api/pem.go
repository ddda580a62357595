package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
)

func pemOf(label string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
}

func pkcs8(key crypto.Signer) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	check(err)
	return pemOf("PRIVATE KEY", der)
}

// readIssuer reads what prepare has written.
func readIssuer(files string) issuer {
	certificate, _ := pem.Decode(read(files + ".pem"))
	key, _ := pem.Decode(read(files + ".key"))
	parsed, err := x509.ParsePKCS8PrivateKey(key.Bytes)
	check(err)
	return issuer{parse(certificate.Bytes), parsed.(crypto.Signer)}
}
