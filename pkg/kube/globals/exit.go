package globals

import (
	"runtime"

	"k8s.io/klog/v2"
)

// OutliveExits keeps klog.Fatal and klog.Exit from ending the process while it
// stops: they end the goroutine that called them. The API server's start hooks
// call klog.Fatal when they are interrupted, which would end a process that was
// asked to stop during its start before its datastore is closed. Call it once,
// before any Kubernetes component is built; stopping must be safe for
// concurrent use.
func OutliveExits(stopping func() bool) {
	exit := klog.OsExit
	klog.OsExit = func(code int) {
		if stopping() {
			runtime.Goexit() // the caller does not expect to go on
		}
		exit(code)
	}
}
