package ort

import (
	"os"
	"os/signal"
	"syscall"
)

// keepSignals guards Go's signal handling while a provider starts: CUDA's libraries install handlers of their own. Listening
// to the signals anew afterwards makes the Go runtime install its handlers again.
func keepSignals() (restore func()) {
	ch := make(chan os.Signal, 1)
	return func() {
		for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGCHLD} {
			if !signal.Ignored(s) {
				signal.Notify(ch, s)
			}
		}
		signal.Stop(ch)
	}
}
