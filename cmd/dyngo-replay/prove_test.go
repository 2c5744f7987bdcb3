package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/integrity"
)

// What prove prints of a store, a backup, an archive, and of an event that only the archive still has, is accepted by the program
// that others check it with, and is not once a digit of it was changed.
func TestProve(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	verifier := in("verifier")
	if out, err := exec.Command("go", "build", "-o", verifier, "../../docs/verifier").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	private, public, err := integrity.NewKey(rand.Reader)
	err = errors.Join(err, os.WriteFile(in("key"), []byte(private), 0o600), os.WriteFile(in("key.pub"), []byte(public), 0o600),
		archived(in("store"), in("archive")), backUp(in("store"), in("backups")))
	if err != nil {
		t.Fatal(err)
	}
	if _, code, errs := run(t, "verify", "-d", in("archive"), "--anchor", in("heads"), "--signing-key", in("key")); code != cli.ExitOK {
		t.Fatalf("no head: %s", errs)
	}
	check := func(bundle []byte) error {
		if err := os.WriteFile(in("bundle"), bundle, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(verifier, "-key", in("key.pub"), in("bundle")).CombinedOutput()
		if err != nil {
			return errors.New(string(out))
		}
		return nil
	}
	for _, args := range []string{
		"42 -d store", "4 -d store --archive archive", "4 -d archive", "4 -d backups --archive archive",
		"heads --anchor heads -d archive", "heads --anchor heads -d store --archive archive", "heads --anchor heads -d store",
	} {
		fields := strings.Fields(args)
		for i, f := range fields {
			if i > 0 && f[0] != '-' {
				fields[i] = in(f)
			}
		}
		out, code, errs := run(t, append([]string{"prove", "--signing-key", in("key")}, fields...)...)
		if code != cli.ExitOK {
			t.Errorf("%s: exit code %d, %s", args, code, errs)
			continue
		}
		if err := check([]byte(out)); err != nil {
			t.Errorf("%s: the verifier says %v", args, err)
		}
		forged := bytes.Replace([]byte(out), []byte("lsn "), []byte("lsn 1"), 1) // in the signed head
		if err := check(forged); err == nil {
			t.Errorf("%s: the verifier accepts a head that was changed", args)
		}
	}
}
