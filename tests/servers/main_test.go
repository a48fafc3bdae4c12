// Package servers tests clusters of several servers, and servers on an embedded
// etcd, the way that people use them. Run it with `sudo make test`.
package servers

import (
	"os"
	"testing"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// suite is set up by TestMain.
var suite *framework.Suite

func TestMain(m *testing.M) {
	os.Exit(framework.Main(m, func(s *framework.Suite) { suite = s }))
}
