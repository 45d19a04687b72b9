package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.yaml.in/yaml/v4"

	"quorate/cluster/node"
	"quorate/resources/vm"
)

// file is the configuration file; flags go before it.
type file struct {
	Name       string            `yaml:"name"`
	State      string            `yaml:"state"`
	Run        string            `yaml:"run"`
	Etc        string            `yaml:"etc"`
	Storage    string            `yaml:"storage"`
	Listen     string            `yaml:"listen"`
	KeeperPort int               `yaml:"keeper-port"`
	GossipPort int               `yaml:"gossip-port"`
	Profile    string            `yaml:"profile"`
	Accel      string            `yaml:"accel"`
	Networks   map[string]string `yaml:"networks"`
	LogLevel   string            `yaml:"log-level"`
}

const defaultConfig = "/etc/quorate/clusterd.yaml"

// options reads flags and configuration.
func options(args []string) (node.Options, error) {
	var f file
	set := flag.NewFlagSet("clusterd", flag.ContinueOnError)
	config := set.String("config", defaultConfig, "configuration `file` (YAML); the default one need not exist")
	set.StringVar(&f.Name, "name", "", "the node's `name` (default its host name)")
	set.StringVar(&f.State, "state", "", "`directory` for what must survive a restart (default /var/lib/quorate)")
	set.StringVar(&f.Run, "run", "", "`directory` for sockets and machines (default /run/quorate)")
	set.StringVar(&f.Listen, "listen", "", "host:port of the TLS port (default :7400)")
	set.StringVar(&f.Accel, "accel", "", "how machines' processors run: auto, kvm or tcg (default auto)")
	set.StringVar(&f.LogLevel, "log-level", "", "debug, info, warn or error (default info)")
	if err := set.Parse(args); err != nil {
		return node.Options{}, err
	}
	if set.NArg() > 0 {
		return node.Options{}, fmt.Errorf("%q is not understood; clusterd takes flags only", set.Arg(0))
	}
	given := false
	set.Visit(func(fl *flag.Flag) { given = given || fl.Name == "config" && *config != defaultConfig })
	under, err := read(*config, given)
	if err != nil {
		return node.Options{}, err
	}
	log, err := logger(cmp.Or(f.LogLevel, under.LogLevel, "info"))
	if err != nil {
		return node.Options{}, err
	}
	return node.Options{
		Name: cmp.Or(f.Name, under.Name), StateDir: cmp.Or(f.State, under.State), RunDir: cmp.Or(f.Run, under.Run), EtcDir: under.Etc,
		StorageDir: under.Storage, Listen: cmp.Or(f.Listen, under.Listen), KeeperPort: under.KeeperPort, GossipPort: under.GossipPort,
		Profile: under.Profile, Accel: vm.Accel(cmp.Or(f.Accel, under.Accel)), Networks: under.Networks, Log: log,
	}, nil
}

// read reads the file strictly: what it does not know is an error.
func read(name string, must bool) (file, error) {
	var f file
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) && !must {
		return f, nil
	} else if err != nil {
		return f, err
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return f, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

func logger(level string) (*zap.Logger, error) {
	l, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("log-level %q: must be debug, info, warn or error", level)
	}
	c := zap.NewProductionConfig()
	c.Encoding, c.Level, c.Sampling = "console", zap.NewAtomicLevelAt(l), nil
	c.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	c.DisableStacktrace = true
	return c.Build()
}
