# frozen_string_literal: true

require_relative "spec_helper"
require "open3"
require "tempfile"

RSpec.describe SidekiqBridge::Sidecar::Settings do
  def settings(env = {}, **options) = described_class.from({app: SETTINGS.app, **options}, env)

  def start_error(status, text)
    raise_error(SidekiqBridge::Sidecar::StartError) { |error| expect([error.exit_status, error.message]).to match([status, a_string_including(*text)]) }
  end

  it "needs no secret on a Unix socket" do
    expect { settings(bind: "unix:///tmp/x.sock").check }.not_to raise_error
  end

  it "refuses to listen on TCP without a secret, even on loopback" do
    expect { settings.check }.to start_error(78, ["tcp://127.0.0.1:9292", "BRIDGE_SIDECAR_SECRET"])
    expect { settings({"BRIDGE_SIDECAR_SECRET" => " \n,"}).check }.to start_error(78, ["BRIDGE_SIDECAR_SECRET"])
    expect { settings({"BRIDGE_SIDECAR_SECRET" => "s"}).check }.not_to raise_error
  end

  it "refuses to listen beyond loopback without TLS" do
    secret = {"BRIDGE_SIDECAR_SECRET" => "s"}
    %w[tcp://0.0.0.0:9292 tcp://[::]:9292 tcp://10.1.2.3:9292].each { |bind| expect { settings(secret, bind: bind).check }.to start_error(78, ["ssl://"]) }
    %w[tcp://127.0.0.1:1 tcp://127.0.0.2:1 tcp://[::1]:1].each { |bind| expect { settings(secret, bind: bind).check }.not_to raise_error }
  end

  it "wants a certificate for TLS, from options or the address" do
    file = Tempfile.new("pem").path
    expect { settings(bind: "ssl://0.0.0.0:1").check }.to start_error(78, ["--tls-cert"])
    expect { settings(bind: "ssl://0.0.0.0:1?cert=/no/file&key=/no/file").check }.to start_error(78, ["cannot read"])
    expect(settings(bind: "ssl://0.0.0.0:1?cert=#{file}&key=#{file}&ca=#{file}").address.tls).to include("verify_mode" => "force_peer")
    expect(settings(bind: "ssl://0.0.0.0:1", tls_cert: file, tls_key: file).address.tls).to include("verify_mode" => "none")
  end

  it "reads one or two secrets, from a file when there is one" do
    file = Tempfile.new("secret").tap { |each| each.write("new\nold\n") && each.close }.path
    expect(settings({"BRIDGE_SIDECAR_SECRET" => "a,b"}).secrets).to eq(%w[a b])
    expect(settings({"BRIDGE_SIDECAR_SECRET_FILE" => file}).secrets).to eq(%w[new old])
    expect(settings(secret_file: file).secrets).to eq(%w[new old])
    expect { settings(secret_file: "/no/file").check }.to start_error(78, ["--secret-file"])
    File.write(file, "\n")
    expect { settings(secret_file: file).check }.to start_error(78, [file, "holds no secret"])
  end

  it "calls wrong options by name" do
    expect { settings(app: nil).check }.to start_error(64, ["--require"])
    expect { settings(app: "/no/such").check }.to start_error(64, ["/no/such"])
    expect { settings(threads: 0).check }.to start_error(64, ["--threads"])
    expect { settings(bind: "http://x").check }.to start_error(64, ["--bind"])
    expect { settings(bind: "unix://relative").check }.to start_error(64, ["unix://#{Dir.pwd}/relative"])
    expect { settings(bind: "tcp://nohost").check }.to start_error(64, ["port"])
    # It listened on 34463, and said "ready on tcp://localhost:99999".
    expect { settings(bind: "tcp://localhost:99999").check }.to start_error(64, ["99999", "at most 65535"])
  end

  it "refuses the path of a file that is not a socket" do
    Tempfile.create("app.log") do |file|
      expect { settings(bind: "unix://#{file.path}").check }.to start_error(78, ["cannot listen", "is not a socket", "--bind"])
    end
  end

  it "gives each worker an address of its own, on no port that could be taken" do
    expect(settings(bind: "unix:///run/s.sock").address.private(1, "/tmp/own").to_s).to eq("unix:///run/s.sock.1")
    expect(settings(bind: "tcp://127.0.0.1:9292").address.private(1, "/tmp/own").to_s).to eq("unix:///tmp/own/1.sock")
  end

  it "names a directory that is missing, a file in its place, and a path that is too long" do
    expect { settings(bind: "unix:///no/such/s.sock").check }.to start_error(78, ["/no/such does not exist", "mkdir -p /no/such"])
    expect { settings(bind: "unix://#{__FILE__}/s.sock").check }.to start_error(78, ["is not a directory"])
    expect { settings(bind: "unix:///#{"x" * 110}/s.sock").check }.to start_error(64, ["longer than 104 bytes"])
  end

  it "takes no workers for one, as Puma does" do
    expect(settings(bind: "unix:///tmp/s.sock", workers: 0).check).to have_attributes(cluster?: false, processes: 1)
    expect(settings(bind: "unix:///tmp/s.sock", workers: 0, max_rss: 500).check).to have_attributes(cluster?: true, processes: 1)
    expect { settings(workers: -1).check }.to start_error(64, ["--workers"])
    expect { settings({"BRIDGE_SIDECAR_WORKERS" => "two"}) }.to start_error(64, ["BRIDGE_SIDECAR_WORKERS", "two"])
  end

  it "takes options before the environment" do
    env = {"BRIDGE_SIDECAR_BIND" => "unix:///env", "BRIDGE_SIDECAR_THREADS" => "9", "RAILS_ENV" => "staging"}
    expect(settings(env)).to have_attributes(bind: "unix:///env", threads: 9, environment: "staging")
    expect(settings(env, threads: 2, environment: "test")).to have_attributes(threads: 2, environment: "test")
  end

  describe "bin/sidecar" do
    def sidecar(*args)
      output, status = Open3.capture2e({"BRIDGE_SIDECAR_SECRET" => nil, "RUBYOPT" => @rubyopt}, "ruby", SidecarProcess::BIN, *args)
      [status.exitstatus, output]
    end

    # A team that runs its Rails app with -W0 saw status 64 and not one word.
    it "says so even where Ruby's warnings are silenced" do
      @rubyopt = "-W0"
      expect(sidecar("--nonsense")).to match([64, /\Asidecar: .*--nonsense.*--help\n\z/])
    end

    it "ends with one sentence and a status that says whose fault it is" do
      expect(sidecar("-r", SETTINGS.app)).to match([78, /\Asidecar: .*BRIDGE_SIDECAR_SECRET.*\n\z/])
      expect(sidecar("--nonsense")).to match([64, /\Asidecar: .*--nonsense.*--help\n\z/])
      expect(sidecar("-r", SETTINGS.app, "-t", "many")).to match([64, /\Asidecar: .*many.*\n\z/])
      expect(sidecar("--help")).to match([0, /--require PATH/])
    end
  end
end
