package peers

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:embed programs/peer.cpp
var fastSource []byte

//go:embed programs/peer.py
var cycloneSource []byte

//go:embed programs/peer.c
var cycloneCSource []byte

//go:embed programs/asker.rs
var askerSource []byte

//go:embed programs/peer.rs
var rustSource []byte

// cache is where built peers are kept: STLLM_PEERS, else in the user's cache folder. `make peers` fills it.
func cache() (string, error) {
	if dir := os.Getenv("STLLM_PEERS"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "stllm", "peers"), err
}

// builder compiles a program once for every version of its source.
type builder struct {
	name, file, compiler string // "fastdds", "peer.cpp", "g++"
	source               []byte
	flags, libraries     []string
}

var fastBuild = sync.OnceValues(builder{"fastdds", "peer.cpp", "g++", fastSource, []string{"-std=c++17", "-w", "-O1"}, []string{"-lfastrtps", "-lfastcdr"}}.build)

var cycloneBuild = sync.OnceValues(builder{"cyclone", "peer.c", "gcc", cycloneCSource, []string{"-std=gnu11", "-w", "-O1"}, []string{"-lddsc", "-lpthread"}}.build)

func (b builder) build() (string, error) {
	dir, err := cache()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, b.name+"-"+version(b.source))
	if executable(path) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(dir, "build")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	source, built := filepath.Join(work, b.file), filepath.Join(work, "peer")
	if err := os.WriteFile(source, b.source, 0o644); err != nil {
		return "", err
	}
	args := append(append(append([]string{}, b.flags...), source, "-o", built), b.libraries...)
	if out, err := exec.Command(b.compiler, args...).CombinedOutput(); err != nil {
		return "", &buildError{err, string(out)}
	}
	return path, os.Rename(built, path) // whole or not at all, whoever else builds it
}

// version names a source by its content.
func version(source []byte) string {
	sum := sha256.Sum256(source)
	return hex.EncodeToString(sum[:6])
}

type buildError struct {
	err  error
	said string
}

func (e *buildError) Error() string { return e.err.Error() + ": " + e.said }

// FastDDS starts the peer on Fast DDS, which uses 127.0.0.1 alone.
func FastDDS(t testing.TB, domain int) *Peer { t.Helper(); return fastDDS(t, domain) }

// FastDDSOpen starts one that uses the machine's ordinary addresses and finds others on this machine, as rmw_fastrtps does from
// Iron on with ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST.
func FastDDSOpen(t testing.TB, domain int) *Peer { t.Helper(); return fastDDS(t, domain, "open") }

func fastDDS(t testing.TB, domain int, options ...string) *Peer {
	t.Helper()
	if _, err := os.Stat("/usr/include/fastdds/dds/domain/DomainParticipant.hpp"); err != nil {
		t.Skip("no Fast DDS to build the foreign peer with: apt-get install g++ libfastrtps-dev libfastcdr-dev")
	}
	path, err := fastBuild()
	if err != nil {
		t.Skipf("the Fast DDS peer cannot be built: %v", err)
	}
	return start(t, "the Fast DDS peer", exec.Command(path, append([]string{strconv.Itoa(domain)}, options...)...))
}

// CyclonePython finds a Python with CycloneDDS: STLLM_CYCLONE_PYTHON, that of `make peers`, or python3.
func CyclonePython(t testing.TB) string {
	t.Helper()
	tried := []string{os.Getenv("STLLM_CYCLONE_PYTHON")}
	if dir, err := cache(); err == nil {
		tried = append(tried, filepath.Join(dir, "python", "bin", "python"))
	}
	var last string
	for _, python := range append(tried, "python3") {
		if python == "" {
			continue
		}
		out, err := exec.Command(python, "-c", "import cyclonedds.domain").CombinedOutput()
		if err == nil {
			return python
		}
		last = strings.TrimSpace(err.Error() + " " + string(out))
	}
	t.Skipf("no Python with CycloneDDS (`make peers`, or set STLLM_CYCLONE_PYTHON to that of a virtual environment with `pip install cyclonedds==11.0.1`): %s", last)
	return ""
}

// CycloneEnvironment keeps CycloneDDS on loopback, where it finds others by unicast. The lease is short so that one that is
// killed is soon forgotten.
func CycloneEnvironment() []string { return cycloneEnvironment("3s") }

func cycloneEnvironment(lease string) []string {
	return append(os.Environ(), `CYCLONEDDS_URI=<CycloneDDS><Domain><General><Interfaces><NetworkInterface name="lo" multicast="false"/></Interfaces></General>`+
		`<Discovery><ParticipantIndex>auto</ParticipantIndex><LeaseDuration>`+lease+`</LeaseDuration><Peers><Peer address="127.0.0.1"/></Peers></Discovery></Domain></CycloneDDS>`)
}

// cycloneOpenEnvironment configures CycloneDDS as rmw_cyclonedds_cpp does from Iron on with ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST:
// its ordinary interface, no multicast, and this machine as a peer. Only the lease is shorter, as above. interfaces may name others.
func cycloneOpenEnvironment(interfaces string) []string {
	return append(os.Environ(), `CYCLONEDDS_URI=<CycloneDDS><Domain><General>`+interfaces+`<AllowMulticast>false</AllowMulticast></General><Discovery>`+
		`<ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>32</MaxAutoParticipantIndex><Peers><Peer address="localhost"/></Peers>`+
		`<LeaseDuration>3s</LeaseDuration></Discovery></Domain></CycloneDDS>`)
}

// Cyclone starts the peer on CycloneDDS in Python.
func Cyclone(t testing.TB, domain int) *Peer {
	t.Helper()
	return cyclone(t, domain, CycloneEnvironment())
}

// CycloneOpen starts one in the discovery range LOCALHOST that uses loopback beside its ordinary interface: version 11 drops
// announcements that come over an interface which it does not use, and Fast DDS sends all that is for this machine to 127.0.0.1.
func CycloneOpen(t testing.TB, domain int) *Peer {
	t.Helper()
	return cyclone(t, domain, cycloneOpenEnvironment(`<Interfaces><NetworkInterface autodetermine="true"/><NetworkInterface name="lo" multicast="false"/></Interfaces>`))
}

func cyclone(t testing.TB, domain int, environment []string) *Peer {
	t.Helper()
	python := CyclonePython(t)
	path := filepath.Join(t.TempDir(), "peer.py")
	if err := os.WriteFile(path, cycloneSource, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, path, strconv.Itoa(domain))
	cmd.Env = environment
	p := start(t, "the CycloneDDS peer in Python", cmd)
	p.header = true
	return p
}

// CycloneC starts the peer on CycloneDDS in C, where that library is installed.
func CycloneC(t testing.TB, domain int) *Peer {
	t.Helper()
	return cycloneC(t, domain, CycloneEnvironment())
}

// CycloneLasting starts the peer in Python with a lease longer than any test: only by its own word is it forgotten.
func CycloneLasting(t testing.TB, domain int) *Peer {
	t.Helper()
	return cyclone(t, domain, cycloneEnvironment("3000s"))
}

// CycloneCLasting starts the one in C so.
func CycloneCLasting(t testing.TB, domain int) *Peer {
	t.Helper()
	return cycloneC(t, domain, cycloneEnvironment("3000s"))
}

// CycloneCOpen starts one in the discovery range LOCALHOST.
func CycloneCOpen(t testing.TB, domain int) *Peer {
	t.Helper()
	return cycloneC(t, domain, cycloneOpenEnvironment(""))
}

func cycloneC(t testing.TB, domain int, environment []string) *Peer {
	t.Helper()
	if _, err := os.Stat("/usr/include/dds/ddsi/ddsi_sertype.h"); err != nil {
		t.Skip("no CycloneDDS to build the foreign peer in C with: apt-get install gcc cyclonedds-dev")
	}
	path, err := cycloneBuild()
	if err != nil {
		t.Skipf("the CycloneDDS peer in C cannot be built (Debian's cyclonedds-dev 0.10 is expected): %v", err)
	}
	cmd := exec.Command(path, strconv.Itoa(domain))
	cmd.Env = environment
	p := start(t, "the CycloneDDS peer in C", cmd)
	p.header = true
	return p
}

// RustDDS starts the peer on RustDDS, which `make peers` builds. Its lease is 50 s and cannot be set.
func RustDDS(t testing.TB, domain int) *Peer {
	t.Helper()
	p := start(t, "the RustDDS peer", exec.Command(builtRust(t, "peer-"+version(rustSource)), strconv.Itoa(domain)))
	p.blind, p.frail, p.lease = true, true, 50*time.Second
	return p
}

// Asker finds the Rust program with an action client.
func Asker(t testing.TB) string { t.Helper(); return builtRust(t, "asker-"+version(askerSource)) }

// Rust finds the peer on ros2-client and RustDDS: STLLM_RUST_PEER, or that of `make peers`.
func Rust(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("STLLM_RUST_PEER"); path != "" {
		return path
	}
	return builtRust(t, "ros2peer")
}

// RustHumble finds the same with graph messages of Humble.
func RustHumble(t testing.TB) string { t.Helper(); return builtRust(t, "ros2peer-humble") }

// builtRust finds a Rust program that `make peers` has built.
func builtRust(t testing.TB, name string) string {
	t.Helper()
	dir, err := cache()
	if err != nil {
		t.Skipf("no cache folder: %v", err)
	}
	path := filepath.Join(dir, name)
	if !executable(path) {
		t.Skipf("no Rust program at %q: `make peers` builds it where the peers' sources and cargo are", path)
	}
	return path
}

// Domain is one for this test process. Other packages' tests have theirs from 30 on; up to 101 the ports lie below those that
// Linux hands out.
func Domain() int { return 1 + os.Getpid()%29 }
