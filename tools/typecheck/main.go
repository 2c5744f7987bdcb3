// Command typecheck checks packages and their tests for the system that GOOS and GOARCH name, with all that they import, from source:
// it says what a compiler would reject, and needs no compiled packages of that system, which take minutes to make.
//
//	GOOS=windows GOARCH=amd64 CGO_ENABLED=0 typecheck ./...
package main

import (
	"fmt"
	"os"

	"golang.org/x/tools/go/packages"
)

func main() {
	pkgs, err := packages.Load(&packages.Config{Mode: packages.LoadAllSyntax, Tests: true}, os.Args[1:]...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "typecheck:", err)
		os.Exit(1)
	}
	if packages.PrintErrors(pkgs) > 0 || len(pkgs) == 0 {
		fmt.Fprintf(os.Stderr, "typecheck: %d packages, see above\n", len(pkgs))
		os.Exit(1)
	}
}
